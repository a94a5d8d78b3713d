"""Cross-validation: every fold is the test part of one run, and all of them together are one result.

    for each repeat: for each fold: a run of its own in RUN/folds/ → their predictions, put together → report

Two kinds of numbers come out. Fold by fold: each fold's numbers, their mean and spread. Out of fold: every case judged
by the one model that has not seen it. A number of single cases (Dice) is the same in both but for the weight of the
folds; a number of a set (an area under a curve) needs outputs that can be compared between models, which a task says
(`Task.pools_folds`); where they cannot be, each fold is taken by itself and the mean is told.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.cases import Case
from pipelines.casetables import write_cases
from pipelines.config import ResolvedWorkflow
from pipelines.digests import data_digest
from pipelines.errors import ConfigurationError, Interrupted
from pipelines.experiment.drawing import draw_folds
from pipelines.experiment.environment import describe_environment
from pipelines.experiment.foldresults import Fold, FoldResults
from pipelines.experiment.judgement import summarise_rows, write_tables
from pipelines.experiment.preparation import PreparedCases, prepare_cases
from pipelines.experiment.records import track_start, write_excluded
from pipelines.experiment.single import Outcome, Say, means_of, now, run_once, standing_of
from pipelines.runs import RunFolder, write_atomically
from pipelines.task import Task, find_task

if TYPE_CHECKING:
    from pipelines.tracking import RunState

__all__ = ["list_folds", "run_folds"]


def list_folds(resolved: ResolvedWorkflow, run: RunFolder, cases: Sequence[Case]) -> list[Fold]:
    """The folds that the workflow asks for, in the order they are run.

    Raises:
        ConfigurationError: `cross_validation.only` names folds that do not exist.
        DataError: The cases make no folds.
    """
    settings = resolved.config.cross_validation
    assert settings is not None
    count = resolved.config.split.count_folds(cases)
    unknown = sorted(fold for fold in settings.only if not 0 <= fold < count)
    if unknown:
        raise ConfigurationError(
            f"cross_validation.only names fold {unknown[0]}; there are {count}, counted from 0",
            hint="Leave it out to train all folds.",
        )
    chosen = settings.only or range(count)
    return [
        Fold(repeat, number, RunFolder(run.folds / f"repeat-{repeat}-fold-{number:02d}"))
        for repeat in range(settings.repeats)
        for number in chosen
    ]


def run_folds(resolved: ResolvedWorkflow, run: RunFolder, *, resume: bool, say: Say) -> Outcome:
    """Trains and judges every fold, then all of them together. With `resume`, finished folds are kept."""
    from pipelines.reporting import build_report
    from pipelines.tracking import open_tracker
    from pipelines.training import choose_device

    started = time.monotonic()
    config = resolved.config
    task = find_task(config.task).load()(config)
    say("reading and checking the cases")
    cases = _prepare(task, run)
    folds = list_folds(resolved, run, tuple(cases.table))
    device = str(choose_device(config.train.device))
    environment = describe_environment(seed=config.seed, device=device) | {"data_digest": data_digest(cases.table)}
    run.write_json(run.environment, environment)
    say(f"{len(cases.table)} cases in {len(folds)} runs, one for each fold")
    tracker = open_tracker(config.track, run, name=config.name, output=Path(config.output), resume=resume)
    state: RunState = "failed"
    try:
        track_start(tracker, resolved, run, cases, environment)
        for at, fold in enumerate(folds):
            if fold.run.read_status().get("state") != "finished":
                say(f"repeat {fold.repeat + 1}, fold {fold.number}: run {at + 1} of {len(folds)}")
                _run_fold(resolved, run, fold, resume=resume)
                say(f"  {_one_line(task, fold)}, {time.monotonic() - started:.0f} s so far")
            tracker.log_child(fold.run)  # Of one that was finished before, only what has not been delivered.
        outcome = _put_together(task, run, cases, folds, started)
        run.update_status(state="finished", ended=now(), seconds=round(outcome.seconds, 1))
        say(f"report {build_report(run)}")
        tracker.log_metrics({f"test/{name}": mean for name, mean in means_of(outcome.summary).items()}, step=len(folds))
        tracker.log_run_folder()
        state = "finished"
    except (Interrupted, KeyboardInterrupt):
        state = "interrupted"
        raise
    finally:
        tracker.finish(state)
    return outcome


def _prepare(task: Task, run: RunFolder) -> PreparedCases:
    """The cases, checked once for all folds; what is drawn here is one fold's division, and not told."""
    cases = prepare_cases(task)
    cases = replace(cases, table=replace(cases.table, cases=tuple(replace(case, split="") for case in cases.table)))
    write_cases(cases.table, run.cases, facts=cases.facts)
    write_excluded(run, cases)
    return cases


def _run_fold(resolved: ResolvedWorkflow, parent: RunFolder, fold: Fold, *, resume: bool) -> None:
    config = resolved.config
    own = config.model_copy(
        update={
            "cross_validation": None,
            "seed": config.seed + fold.repeat,
            "split": config.split.model_copy(update={"fold": fold.number}),
        }
    )
    fold.run.root.mkdir(parents=True, exist_ok=True)
    one = replace(resolved, config=own)
    with standing_of(fold.run, one):
        run_once(one, fold.run, resume=resume and fold.run.checkpoints.is_dir(), say=lambda line: None, parent=parent)


def _put_together(task: Task, run: RunFolder, cases: PreparedCases, folds: Sequence[Fold], started: float) -> Outcome:
    found = FoldResults.read(folds, {case.case_id: case for case in cases.table})
    walked = [found.cases[case_id] for case_id in dict.fromkeys(found.rows["case_id"])]
    failed = sorted({str(name) for name in found.rows.loc[found.rows["note"].str.startswith("failed"), "case_id"]})
    summary = summarise_rows(
        task,
        found.rows,
        walked,
        lambda drawn: found.pooled(task, drawn),
        list(found.cases.values()),
        failed=len(failed),
        settings=task.config.evaluate,
        seed=task.config.seed,
    )
    write_tables(found.rows, found.predictions, summary, run.evaluation, "test")
    write_atomically(run.evaluation / "folds.csv", found.by_fold.to_csv(index=False))
    run.write_json(run.evaluation / "metrics.json", {name: asdict(metric) for name, metric in task.metrics.items()})
    reasons = dict.fromkeys(failed, "failed in a fold; `failed:` notes in test.cases.csv say why")
    draw_folds(task, found, folds, reasons, run)
    run.update_status(
        selection_metric=task.selection_metric,
        ranking_metric=task.ranking_metric or task.selection_metric,
        part="test",
        synthetic=any(fold.run.read_status().get("synthetic", False) for fold in folds),
        folds=len(folds),
    )
    excluded = {item.case_id: item.reason for item in cases.excluded}
    return Outcome(run, summary, "test", reasons, excluded, time.monotonic() - started)


def _one_line(task: Task, fold: Fold) -> str:
    import pandas as pd

    summary = pd.read_csv(fold.run.evaluation / "test.summary.csv")
    own = summary[summary["metric"] == task.selection_metric]
    over = own[own["class"] == "mean"] if (own["class"] == "mean").any() else own
    return (
        f"{task.selection_metric} {over['mean'].mean():.4f} on {int(over['cases'].max())} cases"
        if len(over)
        else "done"
    )
