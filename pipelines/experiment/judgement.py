"""Evaluation of a network on reference cases: every case is walked, and a failed prediction counts as one."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.runs import write_atomically
from pipelines.task import Figure, MetricRow, Observation, Predictor, Task

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.evaluation import EvaluationSettings

__all__ = ["Judgement", "judge_cases", "summarise_judgement", "summarise_rows", "write_figures", "write_tables"]

COLUMNS = ("case_id", "group", "class", "metric", "value", "note")


@dataclass
class Judgement:
    """What was found on the cases of one part.

    Attributes:
        cases: The cases, each of which took part.
        reference: Those that are walked when rows are summed up.
        rows: Judgements of single cases.
        observed: Case id → what judging the set needs of it; a failed case has none.
        failures: Case id → why there is no prediction.
        seconds: Case id → time it took.
    """

    cases: tuple[Case, ...]
    reference: tuple[Case, ...]
    rows: list[MetricRow] = field(default_factory=list)
    observed: dict[str, Observation] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def table(self) -> pd.DataFrame:
        """The long table: one row for each case, class and metric."""
        import pandas as pd

        groups = {case.case_id: case.group for case in self.reference}
        return pd.DataFrame(
            [(row.case_id, groups[row.case_id], row.class_name, row.metric, row.value, row.note) for row in self.rows],
            columns=list(COLUMNS),
        )

    @property
    def predictions(self) -> pd.DataFrame:
        """What was observed of each case that has a prediction, as far as it is numbers and text."""
        import pandas as pd

        records = [
            {"case_id": case.case_id, "group": case.group} | _scalars(self.observed[case.case_id])
            for case in self.cases
            if case.case_id in self.observed
        ]
        return pd.DataFrame(records)


def judge_cases(
    task: Task,
    predictor: Predictor[Any, Any],
    cases: Sequence[Case],
    *,
    advance: Callable[[], None] = lambda: None,
) -> Judgement:
    """Predicts and judges every case; one that fails takes the worst value of every metric, and its reason is kept."""
    judgement = Judgement(tuple(cases), tuple(task.reference(cases)))
    walked = {case.case_id for case in judgement.reference}
    for case in cases:
        started = time.perf_counter()
        rows: list[MetricRow] = []
        try:
            result = predictor.infer(predictor.read(task.item(case)))
            rows = task.judge(case, result)
            observation = task.observe(case, result)
            if observation is not None:
                judgement.observed[case.case_id] = observation
        except (CaseError, MemoryError, RuntimeError, ValueError, OSError) as error:
            reason = error.reason if isinstance(error, CaseError) else f"{type(error).__name__}: {error}"
            judgement.failures[case.case_id] = reason
            rows = [_failed(row, reason) for row in task.judge(case, None)]
        judgement.rows += [row for row in rows if row.case_id in walked]
        judgement.seconds[case.case_id] = time.perf_counter() - started
        advance()
    judgement.rows += [
        _failed(row, judgement.failures[row.case_id]) if row.case_id in judgement.failures else row
        for row in task.judge_set(cases, judgement.observed)
    ]
    return judgement


def summarise_judgement(
    task: Task, judgement: Judgement, settings: EvaluationSettings, *, seed: int, intervals: bool = True
) -> pd.DataFrame:
    """Means of single cases, and after them the numbers of the whole set, with intervals over groups."""
    return summarise_rows(
        task,
        judgement.table,
        judgement.reference,
        lambda cases: task.pooled(cases, judgement.observed),
        judgement.cases,
        failed=len(judgement.failures),
        settings=settings,
        seed=seed,
        intervals=intervals,
    )


def summarise_rows(
    task: Task,
    rows: pd.DataFrame,
    walked: Sequence[Case],
    pooled: Callable[[Sequence[Case]], dict[tuple[str, str], float]],
    cases: Sequence[Case],
    *,
    failed: int,
    settings: EvaluationSettings,
    seed: int,
    intervals: bool = True,
) -> pd.DataFrame:
    """Means of rows over the walked cases, after what `pooled` says of all cases; with intervals over groups."""
    import pandas as pd

    from pipelines.evaluation import summarise, summarise_pooled

    summary = summarise(
        rows,
        walked,
        metrics=task.metrics,
        resamples=settings.resamples,
        confidence=settings.confidence,
        seed=seed,
    )
    of_the_set = summarise_pooled(
        pooled,
        cases,
        failed=failed,
        resamples=settings.resamples if intervals else 0,
        confidence=settings.confidence,
        seed=seed,
    )
    return summary if of_the_set.empty else pd.concat([of_the_set, summary], ignore_index=True)


def write_tables(rows: pd.DataFrame, predictions: pd.DataFrame, summary: pd.DataFrame, folder: Path, part: str) -> None:
    """Writes `PART.cases.csv`, `PART.summary.csv` and, where cases are judged together, `PART.predictions.csv`."""
    write_atomically(folder / f"{part}.cases.csv", rows.to_csv(index=False))
    write_atomically(folder / f"{part}.summary.csv", summary.to_csv(index=False))
    if len(predictions.columns) > 2:
        write_atomically(folder / f"{part}.predictions.csv", predictions.to_csv(index=False))


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


def _failed(row: MetricRow, reason: str) -> MetricRow:
    return replace(row, note=f"failed: {reason}")


def _scalars(observation: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in observation.items() if isinstance(value, (bool, int, float, str))}
