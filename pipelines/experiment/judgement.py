"""Evaluation of a network on reference cases: every case is walked, and a failed prediction counts as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.runs import write_atomically
from pipelines.task import Figure, MetricRow, Predictor, Task

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Judgement", "judge_cases", "rows_to_table", "write_figures"]

COLUMNS = ("case_id", "group", "class", "metric", "value", "note")


@dataclass
class Judgement:
    """All rows of one part, and what failed."""

    rows: list[MetricRow] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


def judge_cases(
    task: Task,
    predictor: Predictor[Any, Any],
    cases: Sequence[Case],
    *,
    advance: Callable[[], None] = lambda: None,
) -> Judgement:
    """Predicts and judges every case; one that fails takes the worst value of every metric, and its reason is kept."""
    judgement = Judgement()
    for case in cases:
        started = time.perf_counter()
        try:
            result = predictor.infer(predictor.read(task.item(case)))
            judgement.rows.extend(task.judge(case, result))
        except (CaseError, MemoryError, RuntimeError, ValueError, OSError) as error:
            reason = error.reason if isinstance(error, CaseError) else f"{type(error).__name__}: {error}"
            judgement.failures[case.case_id] = reason
            judgement.rows.extend(
                MetricRow(row.case_id, row.class_name, row.metric, row.value, f"failed: {reason}")
                for row in task.judge(case, None)
            )
        judgement.seconds[case.case_id] = time.perf_counter() - started
        advance()
    return judgement


def rows_to_table(rows: Sequence[MetricRow], cases: Sequence[Case]) -> pd.DataFrame:
    """The long table of a part: one row for each case, class and metric."""
    import pandas as pd

    groups = {case.case_id: case.group for case in cases}
    return pd.DataFrame(
        [(row.case_id, groups[row.case_id], row.class_name, row.metric, row.value, row.note) for row in rows],
        columns=list(COLUMNS),
    )


def write_figures(figures: Sequence[Figure], folder: Path) -> list[dict[str, str]]:
    """Writes each picture as PNG and its numbers as CSV; returns the entries of `index.json`."""
    import io

    from PIL import Image

    entries = []
    for figure in figures:
        buffer = io.BytesIO()
        Image.fromarray(figure.image).save(buffer, format="PNG", optimize=True)
        write_atomically(folder / f"{figure.name}.png", buffer.getvalue())
        if figure.data is not None:
            write_atomically(folder / f"{figure.name}.csv", figure.data.to_csv(index=False))
        entries.append({"name": figure.name, "caption": figure.caption, "case_id": figure.case_id})
    return entries
