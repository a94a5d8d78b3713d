"""Judging the network on the validation part while it is trained."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from pipelines.cases import Case
from pipelines.errors import CaseError, PulvinarError
from pipelines.task import MetricRow, Task
from pipelines.training.processes import Processes

__all__ = ["Validation", "summarise_rows", "validate"]


@dataclass
class Validation:
    """What one validation found.

    Attributes:
        values: `validation/METRIC` (mean over classes) and `validation/METRIC/CLASS` (mean over cases).
        score: Mean of the selection metric; NaN where it is not defined for any case.
        skipped: Cases that could not be read.
        stopped: Whether it was cut short.
    """

    values: dict[str, float] = field(default_factory=dict)
    score: float = float("nan")
    skipped: list[CaseError] = field(default_factory=list)
    stopped: bool = False


def validate(
    task: Task,
    network: nn.Module,
    cases: Sequence[Case],
    *,
    device: torch.device,
    processes: Processes,
    skip_bad_cases: bool = False,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Validation:
    """Predicts and judges the cases, divided over processes; every process gets the whole result.

    Args:
        task: Reads, predicts and judges.
        network: The network, in evaluation mode.
        cases: The validation cases.
        device: Where the network is.
        processes: The processes to divide the cases over.
        skip_bad_cases: Whether a case that cannot be read is left out instead of ending the training.
        stop: Asked between cases.
        progress: Told after each case of this process: how many are done, of how many.

    Raises:
        CaseError: A case cannot be read or predicted.
    """
    share = cases[processes.rank :: processes.count]
    rows: list[MetricRow] = []
    mine = Validation()
    problem: PulvinarError | None = None
    predictor = task.predictor(network, device=device)
    with ThreadPoolExecutor(max_workers=1) as reader, torch.no_grad():
        coming = reader.submit(_read, task, predictor, share[0]) if share else None
        for number, case in enumerate(share):
            assert coming is not None
            try:
                loaded = coming.result()
                if number + 1 < len(share):
                    coming = reader.submit(_read, task, predictor, share[number + 1])
                rows += task.judge(case, predictor.infer(loaded))
            except CaseError as error:
                if number + 1 < len(share):
                    coming = reader.submit(_read, task, predictor, share[number + 1])
                if not skip_bad_cases:
                    problem = error
                    break
                mine.skipped.append(error)
            if stop():
                mine.stopped = True
                break
            progress(number + 1, len(share))
    return _gather(task, rows, mine, problem, processes)


def summarise_rows(rows: Sequence[MetricRow]) -> dict[str, float]:
    """Means by metric and class, leaving out values that are not a number, and means over classes by metric."""
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.metric, row.class_name), []).append(row.value)
    summary: dict[str, float] = {}
    by_metric: dict[str, list[float]] = {}
    for (metric, class_name), numbers in values.items():
        mean = _mean(numbers)
        by_metric.setdefault(metric, []).append(mean)
        summary[f"validation/{metric}/{class_name}"] = mean
    return {f"validation/{metric}": _mean(means) for metric, means in by_metric.items()} | summary


def _read(task: Task, predictor: Any, case: Case) -> Any:
    return predictor.read(task.item(case))


def _gather(
    task: Task,
    rows: list[MetricRow],
    mine: Validation,
    problem: PulvinarError | None,
    processes: Processes,
) -> Validation:
    gathered = Validation()
    everything: list[MetricRow] = []
    for their_rows, theirs, their_problem in processes.share((rows, mine, problem)):
        if their_problem is not None:
            raise their_problem
        everything += their_rows
        gathered.skipped += theirs.skipped
        gathered.stopped |= theirs.stopped
    gathered.values = summarise_rows(everything)
    gathered.score = gathered.values.get(f"validation/{task.selection_metric}", float("nan"))
    return gathered


def _mean(numbers: Sequence[float]) -> float:
    # Exact sums: the same bits in whatever order processes hand in their rows.
    defined = [number for number in numbers if not math.isnan(number)]
    return math.fsum(defined) / len(defined) if defined else float("nan")
