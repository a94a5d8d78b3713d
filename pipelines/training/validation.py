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
from pipelines.evaluation.pooled import Pooled, pooled_means
from pipelines.evaluation.rows import MEAN
from pipelines.task import MetricRow, Observation, Task
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
    observed: dict[str, Observation] = {}
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
                result = predictor.infer(loaded)
                rows += task.judge(case, result)
                observation = task.observe(case, result)
                if observation is not None:
                    observed[case.case_id] = observation
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
    return _gather(task, cases, (rows, observed, mine, problem), processes)


def summarise_rows(rows: Sequence[MetricRow], pooled: Pooled | None = None) -> dict[str, float]:
    """Means by metric and class, leaving out values that are not a number, and means over classes by metric.

    Numbers of the whole set stand beside them under the same names.
    """
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        values.setdefault((row.metric, row.class_name), []).append(row.value)
    summary: dict[str, float] = {}
    by_metric: dict[str, list[float]] = {}
    for (metric, class_name), numbers in values.items():
        mean = _mean(numbers)
        by_metric.setdefault(metric, []).append(mean)
        summary[f"validation/{metric}/{class_name}"] = mean
    whole = {f"validation/{metric}": _mean(means) for metric, means in by_metric.items()}
    for (class_name, metric), value in pooled_means(pooled or {}).items():
        if class_name == MEAN:
            whole[f"validation/{metric}"] = value
        else:
            summary[f"validation/{metric}/{class_name}"] = value
    return whole | summary


def _read(task: Task, predictor: Any, case: Case) -> Any:
    return predictor.read(task.item(case))


def _gather(
    task: Task,
    cases: Sequence[Case],
    found: tuple[list[MetricRow], dict[str, Observation], Validation, PulvinarError | None],
    processes: Processes,
) -> Validation:
    gathered = Validation()
    rows: list[MetricRow] = []
    observed: dict[str, Observation] = {}
    for their_rows, their_observed, theirs, their_problem in processes.share(found):
        if their_problem is not None:
            raise their_problem
        rows += their_rows
        observed |= their_observed
        gathered.skipped += theirs.skipped
        gathered.stopped |= theirs.stopped
    if gathered.stopped:  # Part of a set says nothing of the set, and whoever asked for the stop wants no number.
        return gathered
    skipped = {error.case_id for error in gathered.skipped}
    seen = [case for case in cases if case.case_id not in skipped]
    walked = {case.case_id for case in task.reference(seen)}
    rows = [row for row in rows if row.case_id in walked] + task.judge_set(seen, observed)
    gathered.values = summarise_rows(rows, task.pooled(seen, observed) if observed else None)
    gathered.score = gathered.values.get(f"validation/{task.selection_metric}", float("nan"))
    return gathered


def _mean(numbers: Sequence[float]) -> float:
    # Exact sums: the same bits in whatever order processes hand in their rows.
    defined = [number for number in numbers if not math.isnan(number)]
    return math.fsum(defined) / len(defined) if defined else float("nan")
