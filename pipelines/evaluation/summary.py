"""Judgements summed up: means by class and over classes, with confidence intervals over groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pipelines.evaluation.metric import Metric
from pipelines.evaluation.rows import MEAN, Grid, complete_rows, to_grid

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from pipelines.cases import Case

__all__ = ["rank_cases", "summarise", "worst_cases"]

_COUNTED = ("missed", "invented")


def summarise(
    rows: pd.DataFrame,
    cases: Iterable[Case],
    *,
    metrics: Mapping[str, Metric] | None = None,
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Means of every class and metric, and of every metric over the classes (class `mean`).

    Every reference case counts: one without rows is a failure and takes the worst value. The mean over classes is the
    mean of the classes' means. Intervals are percentiles of the means in resamples of the groups, all classes in the
    same resamples; with fewer than two groups there is none.

    Args:
        rows: `case_id, class, metric, value, note`, as `Task.judge` gives them; NaN is undefined and in no mean.
        cases: The reference cases.
        metrics: What the metrics mean; needed where a case has no rows.
        resamples: Bootstrap resamples.
        confidence: Coverage of the intervals.
        seed: Seed of the resamples.

    Returns:
        `class, metric, mean, low, high, std, median, cases, groups, undefined, failed, missed, invented`. The last four
        count cases; in a row over the classes, the cases in which it happened for any class.

    Raises:
        ValueError: The rows do not fit the cases.
    """
    import pandas as pd

    from pipelines.evaluation.bootstrap import GroupSums, percentile_interval, resampled_means, with_means

    reference = {case.case_id: case.group for case in cases}
    grid = to_grid(complete_rows(rows, reference, metrics))
    over, members = _means_over_classes(grid, metrics or {})
    sums = GroupSums(grid.values, grid.groups)
    draws = resampled_means(sums, resamples=resamples, seed=seed)
    whole = with_means(sums.means[None], members)[0]
    low, high = percentile_interval(with_means(draws, members), confidence)
    spread = with_means(grid.values, members)
    records = []
    for index, (class_name, metric) in enumerate([*grid.columns, *((MEAN, name) for name in over)]):
        own = [index] if index < len(grid.columns) else members[index - len(grid.columns)]
        enough = len(set(grid.groups[_any_defined(grid, own)])) > 1
        records.append(
            {
                "class": class_name,
                "metric": metric,
                "mean": whole[index],
                "low": low[index] if enough else float("nan"),
                "high": high[index] if enough else float("nan"),
                **_spread(spread[:, index]),
                "cases": len(grid.case_ids),
                "groups": len(sums),
                **_counts(grid, own),
            }
        )
    return pd.DataFrame(records)


def worst_cases(
    rows: pd.DataFrame,
    metric: str,
    *,
    count: int,
    best: bool = False,
    metrics: Mapping[str, Metric] | None = None,
) -> list[str]:
    """Identifiers of the worst (or best) cases by the mean of a metric over classes, the most extreme first."""
    ranking = rank_cases(rows, metric, metrics=metrics)
    chosen = ranking["case_id"].iloc[::-1] if best else ranking["case_id"]
    return [str(case_id) for case_id in chosen.iloc[:count]]


def rank_cases(rows: pd.DataFrame, metric: str, *, metrics: Mapping[str, Metric] | None = None) -> pd.DataFrame:
    """Cases by the mean of a metric over classes, the worst first: `case_id, value`. Undefined ones are left out.

    Raises:
        ValueError: No row has that metric.
    """
    chosen = rows[rows["metric"] == metric]
    if chosen.empty:
        known = ", ".join(sorted(rows["metric"].unique())) or "none"
        raise ValueError(f"no row has the metric {metric!r}; there are: {known}")
    described = (metrics or {}).get(metric, Metric())
    means = chosen.groupby("case_id", sort=True)["value"].mean().dropna().reset_index()
    return means.sort_values("value", ascending=described.better != "lower", kind="stable", ignore_index=True)


def _means_over_classes(grid: Grid, metrics: Mapping[str, Metric]) -> tuple[list[str], list[list[int]]]:
    """Metrics that are averaged over classes, and the columns of each."""
    names = [
        name
        for name in dict.fromkeys(metric for _, metric in grid.columns)
        if metrics.get(name, Metric()).better != "neither"
    ]
    return names, [[at for at, (_, metric) in enumerate(grid.columns) if metric == name] for name in names]


def _any_defined(grid: Grid, columns: list[int]) -> NDArray[np.bool_]:
    import numpy as np

    return np.asarray((~np.isnan(grid.values[:, columns])).any(axis=1))


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    import numpy as np

    defined = values[~np.isnan(values)]
    return {
        "std": float(defined.std(ddof=1)) if defined.size > 1 else float("nan"),
        "median": float(np.median(defined)) if defined.size else float("nan"),
    }


def _counts(grid: Grid, columns: list[int]) -> dict[str, Any]:
    import numpy as np

    notes = grid.notes[:, columns].astype(str)
    failed = np.char.startswith(notes, "failed")
    undefined = np.isnan(grid.values[:, columns]) & ~failed
    counts = {"undefined": int(undefined.any(axis=1).sum()), "failed": int(failed.any(axis=1).sum())}
    return counts | {word: int((notes == word).any(axis=1).sum()) for word in _COUNTED}
