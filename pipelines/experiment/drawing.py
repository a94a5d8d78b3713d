"""The pictures of a run: of the whole part, of its worst cases and of its best one.

Cases that are drawn are predicted once more, so that no prediction need be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipelines.cases import Case
from pipelines.evaluation import worst_cases
from pipelines.experiment.foldresults import Fold, FoldResults
from pipelines.experiment.judgement import Judgement, write_figures
from pipelines.runs import RunFolder, write_atomically
from pipelines.task import Figure, Predictor, Task

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.workflow import WorkflowConfig

__all__ = ["draw_folds", "draw_part"]


def draw_part(task: Task, predictor: Predictor[Any, Any], judgement: Judgement, run: RunFolder) -> None:
    """Draws a judged part of a single run."""
    entries = write_figures(task.draw_set(judgement.cases, judgement.observed), run.figures)
    by_id = {case.case_id: case for case in judgement.cases}
    for case_id in _chosen(task, judgement.table, judgement.failures):
        entries.extend(write_figures(_draw_case(task, predictor, by_id[case_id]), run.figures))
    _write_index(entries, run)


def draw_folds(
    task: Task,
    found: FoldResults,
    folds: Sequence[Fold],
    failed: Mapping[str, str],
    run: RunFolder,
) -> None:
    """Draws a cross-validation: its first repeat, each case by the model of the fold that had not seen it."""
    entries = write_figures(task.draw_set(found.first_cases, found.first_observed), run.figures)
    chosen = _chosen(task, found.rows, failed)
    drawn: dict[str, list[Figure]] = {}
    for fold in folds:
        ids, _ = found.parts[fold.repeat, fold.number]
        own = [case_id for case_id in chosen if case_id in ids and case_id not in drawn]
        if own:
            served, predictor = _of_fold(fold, task.config)
            drawn |= {case_id: _draw_case(served, predictor, found.cases[case_id]) for case_id in own}
    for case_id in chosen:  # worst first, whichever fold they are of
        entries.extend(write_figures(drawn[case_id], run.figures))
    _write_index(entries, run)


def _chosen(task: Task, table: pd.DataFrame, failed: Mapping[str, str]) -> list[str]:
    """The worst cases and the best one, of those that have a prediction."""
    metric, count = task.ranking_metric or task.selection_metric, task.config.evaluate.worst
    worst = worst_cases(table, metric, count=count, metrics=task.metrics)
    best = worst_cases(table, metric, count=min(1, count), best=True, metrics=task.metrics)
    return [case_id for case_id in dict.fromkeys([*worst, *best]) if case_id not in failed]


def _of_fold(fold: Fold, config: WorkflowConfig) -> tuple[Task, Predictor[Any, Any]]:
    import torch

    from pipelines.modelfolder import load_model
    from pipelines.training import choose_device

    device = torch.device(choose_device(config.train.device))
    loaded = load_model(fold.run.model, device=device)
    task = loaded.task.with_workflow(config)
    task.read_cases()
    return task, task.predictor(loaded.network, device=device)


def _draw_case(task: Task, predictor: Predictor[Any, Any], case: Case) -> list[Figure]:
    return list(task.draw(case, predictor.infer(predictor.read(task.item(case)))))


def _write_index(entries: Sequence[Mapping[str, str]], run: RunFolder) -> None:
    write_atomically(run.figures / "index.json", json.dumps(list(entries), indent=2) + "\n")
