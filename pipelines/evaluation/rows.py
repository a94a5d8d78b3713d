"""The long table of judgements: one row for each case, class and metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.errors import DataError
from pipelines.evaluation.metric import Metric

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

__all__ = ["MEAN", "NO_JUDGEMENT", "Grid", "complete_rows", "read_rows", "to_grid"]

MEAN = "mean"
"""Stands in the column `class` for the mean over all classes."""
NO_JUDGEMENT = "failed: not judged"

_COLUMNS = ("case_id", "group", "class", "metric", "value", "note")


@dataclass(frozen=True)
class Grid:
    """Judgements as a rectangle.

    Attributes:
        values: `(cases, columns)`, NaN where undefined; cases by identifier.
        notes: `(cases, columns)` of text.
        case_ids: Name of each row.
        groups: For each row the index of its group; groups are numbered by name.
        columns: `(class, metric)` of each column, in the order of their first row.
    """

    values: NDArray[np.float64]
    notes: NDArray[np.object_]
    case_ids: tuple[str, ...]
    groups: NDArray[np.intp]
    columns: tuple[tuple[str, str], ...]


def read_rows(path: Path) -> pd.DataFrame:
    """Reads a long table from CSV; identifiers and names stay text.

    Raises:
        DataError: It is not there, or is no such table.
    """
    import pandas as pd

    try:
        text = pd.read_csv(path, dtype=str, keep_default_na=False)
        table = text.assign(value=text["value"].replace("", "nan").astype(float)) if "value" in text else text
    except (OSError, ValueError) as error:
        raise DataError(f"{path.name} cannot be read as a table of judgements: {error}") from error
    missing = [name for name in _COLUMNS if name not in table]
    if missing:
        raise DataError(f"{path.name} is no table of judgements: it has no column {', '.join(missing)}")
    return table[list(_COLUMNS)]


def complete_rows(
    rows: pd.DataFrame, reference: Mapping[str, str], metrics: Mapping[str, Metric] | None = None
) -> pd.DataFrame:
    """A row for every reference case, class and metric. What is missing is a failure and takes the worst value.

    Args:
        rows: `case_id, class, metric, value, note`.
        reference: Case id → group of every case that should have been judged.
        metrics: What the metrics mean; needed where a row is missing.

    Returns:
        `case_id, group, class, metric, value, note`, by case identifier.

    Raises:
        ValueError: Rows are repeated, are of other cases, or hold an infinite value; or a row is missing and nothing
            says what the worst value of its metric is.
    """
    import numpy as np
    import pandas as pd

    _check(rows, reference)
    pairs = rows[["class", "metric"]].drop_duplicates()
    every = pd.MultiIndex.from_tuples(
        [(case_id, *pair) for case_id in sorted(reference) for pair in pairs.itertuples(index=False)],
        names=["case_id", "class", "metric"],
    )
    indexed = rows.set_index(["case_id", "class", "metric"])[["value", "note"]]
    whole = indexed.reindex(every).reset_index()
    absent = ~every.isin(indexed.index)
    for metric in whole.loc[absent, "metric"].unique():
        whole.loc[absent & (whole["metric"] == metric), "value"] = _worst(metric, rows, metrics or {})
    whole["note"] = np.where(absent, NO_JUDGEMENT, whole["note"].fillna(""))
    whole.insert(1, "group", whole["case_id"].map(dict(reference)))
    return whole


def to_grid(rows: pd.DataFrame) -> Grid:
    """The rectangle of a complete table."""
    import numpy as np

    columns = tuple(rows[["class", "metric"]].drop_duplicates().itertuples(index=False, name=None))
    case_ids = tuple(sorted(rows["case_id"].unique()))
    row_of = {case_id: index for index, case_id in enumerate(case_ids)}
    column_of = {pair: index for index, pair in enumerate(columns)}
    at = (
        rows["case_id"].map(row_of).to_numpy(),
        np.array([column_of[pair] for pair in zip(rows["class"], rows["metric"], strict=True)], dtype=np.intp),
    )
    values = np.full((len(case_ids), len(columns)), np.nan)
    notes = np.full(values.shape, "", dtype=object)
    values[at] = rows["value"].to_numpy(dtype=float)
    notes[at] = rows["note"].to_numpy(dtype=object)
    group_of = dict(zip(rows["case_id"], rows["group"], strict=True))
    _, groups = np.unique(np.array([group_of[case_id] for case_id in case_ids], dtype=str), return_inverse=True)
    return Grid(values, notes, case_ids, groups, columns)


def _check(rows: pd.DataFrame, reference: Mapping[str, str]) -> None:
    import numpy as np

    if not reference:
        raise ValueError("there is no reference case to judge on")
    if rows.empty:
        raise ValueError(f"none of the {len(reference)} reference cases has a judgement")
    strangers = sorted(set(rows["case_id"]) - set(reference))
    if strangers:
        raise ValueError(f"{len(strangers)} judged cases are not among the reference cases: {', '.join(strangers[:5])}")
    repeated = rows[rows.duplicated(["case_id", "class", "metric"])]
    if len(repeated):
        first = repeated.iloc[0]
        raise ValueError(f"{len(repeated)} repeated rows: {first['case_id']}, {first['class']}, {first['metric']}")
    infinite = rows[np.isinf(rows["value"].to_numpy(dtype=float))]
    if len(infinite):
        first = infinite.iloc[0]
        raise ValueError(f"{len(infinite)} infinite values: {first['case_id']}, {first['class']}, {first['metric']}")
    if (rows["class"] == MEAN).any():
        raise ValueError(f"a class cannot be called {MEAN!r}: that names the mean over classes")


def _worst(name: str, rows: pd.DataFrame, metrics: Mapping[str, Metric]) -> float:
    metric = metrics.get(name)
    if metric is None:
        raise ValueError(f"cases have no row for the metric {name!r}, and nothing says what its worst value is")
    if metric.worst is not None:
        return metric.worst
    if metric.better == "neither":
        return float("nan")
    values = rows.loc[rows["metric"] == name, "value"]
    return float(values.max() if metric.better == "lower" else values.min())
