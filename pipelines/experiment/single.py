"""One training and its judgement, in one run folder.

    prepare → fit → train → judge the best weights on the test part → write the model → draw → track → report

Everything a later step needs is in the run folder, so a run that was stopped goes on where it was.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.casetables import write_cases
from pipelines.config import ResolvedWorkflow
from pipelines.digests import data_digest
from pipelines.errors import DataError, Interrupted
from pipelines.experiment.drawing import draw_part
from pipelines.experiment.environment import describe_environment
from pipelines.experiment.guards import signals_interrupt
from pipelines.experiment.judgement import (
    judge_cases,
    summarise_judgement,
    write_tables,
)
from pipelines.experiment.preparation import PreparedCases, prepare_cases, told_excluded
from pipelines.experiment.records import save_configuration, track_start, write_excluded
from pipelines.runs import RunFolder
from pipelines.splits import apply_splits
from pipelines.task import Task, find_task

if TYPE_CHECKING:
    import pandas as pd

    from pipelines.tracking import RunState
    from pipelines.training import TrainingResult

__all__ = ["Outcome", "Say", "is_main_process", "means_of", "now", "run_once", "standing_of"]

Say = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """What a run came to.

    Attributes:
        run: The run folder.
        summary: Means with intervals of the judged part, by class and metric.
        part: Which part was judged: `test`, or `validation` where there is no test part.
        failed: Cases whose prediction failed, with reasons.
        excluded: Cases set aside before training, with reasons.
        seconds: Wall-clock seconds.
    """

    run: RunFolder
    summary: pd.DataFrame
    part: str
    failed: Mapping[str, str]
    excluded: Mapping[str, str]
    seconds: float


@contextmanager
def standing_of(run: RunFolder, resolved: ResolvedWorkflow) -> Iterator[None]:
    """Keeps `status.json` true to what becomes of a run: running, interrupted, failed; it says itself when finished."""
    main, config = is_main_process(), resolved.config
    if main:
        run.update_status(state="running", started=now(), name=config.name, task=config.task, pid=os.getpid())
        save_configuration(run, resolved)
    try:
        with signals_interrupt():
            yield
    except (Interrupted, KeyboardInterrupt):
        if main:
            run.update_status(state="interrupted", ended=now())
        raise
    except BaseException as error:
        if main:
            run.update_status(state="failed", ended=now(), reason=f"{type(error).__name__}: {error}")
        raise


def run_once(
    resolved: ResolvedWorkflow, run: RunFolder, *, resume: bool = False, say: Say, parent: RunFolder | None = None
) -> Outcome:
    """Trains and judges in a run folder.

    Args:
        resolved: The workflow.
        run: The folder.
        resume: Whether to go on with what is in it.
        say: Takes lines of progress.
        parent: The run that this one is a fold of. A fold has no report of its own, no pictures of cases and no
            intervals of the numbers of its few cases: its parent has them for all folds together.
    """
    import torch

    from pipelines.reporting import build_report
    from pipelines.tracking import open_tracker
    from pipelines.training import choose_device, train

    started = time.monotonic()
    config = resolved.config
    task = find_task(config.task).load()(config)
    main = is_main_process()
    cases = _prepare(task, run, resume=resume, say=say)
    device = choose_device(config.train.device)
    training, validation = cases.part("train"), cases.part("validation")
    digest = data_digest(cases.table) if main else ""
    environment = describe_environment(seed=config.seed, device=str(device)) | {"data_digest": digest}
    if main:
        run.write_json(run.environment, environment)
    say(f"{len(training)} training, {len(validation)} validation and {len(cases.part('test'))} test cases; fitting")
    task.fit(training)
    tracker = open_tracker(
        config.track if main else config.track.model_copy(update={"enabled": False}),
        run,
        name=config.name,
        output=Path(config.output),
        resume=resume,
        parent=parent,
    )
    state: RunState = "failed"
    try:
        if main:
            track_start(tracker, resolved, run, cases, environment)
        result = train(
            task,
            training,
            validation,
            run,
            settings=config.train,
            seed=config.seed,
            tracker=tracker,
            resume=resume,
        )
        if not main:
            return Outcome(run, _empty_summary(), "", {}, {}, time.monotonic() - started)
        network = task.build_network()
        network.load_state_dict(_read_weights(result))
        outcome = _judge_and_write(
            task,
            network.to(torch.device(device)).eval(),
            cases,
            run,
            result,
            digest=digest,
            fold=parent is not None,
            say=say,
            started=started,
        )
        run.update_status(state="finished", ended=now(), seconds=round(outcome.seconds, 1))
        if parent is None:
            say(f"report {build_report(run)}")
        means = {f"{outcome.part}/{name}": mean for name, mean in means_of(outcome.summary).items()}
        tracker.log_metrics(means, step=result.steps_done)
        tracker.log_run_folder()
        state = "finished"
    except (Interrupted, KeyboardInterrupt):
        state = "interrupted"
        raise
    finally:
        tracker.finish(state)
    return outcome


def _prepare(task: Task, run: RunFolder, *, resume: bool, say: Say) -> PreparedCases:
    say("reading and checking the cases")
    cases = prepare_cases(task)
    if resume and run.splits.is_file():
        record = json.loads(run.splits.read_text())
        cases = PreparedCases(apply_splits(cases.table, record), record, cases.facts, cases.excluded)
    if not cases.part("train"):
        raise DataError(
            "no case is left to train on", hint="`pulvinar plan` shows how many cases are in each part, and why."
        )
    if is_main_process():
        write_cases(cases.table, run.cases, facts=cases.facts)
        run.write_json(run.splits, cases.record)
        if not (resume and run.excluded.is_file()):  # training may have set aside more
            write_excluded(run, cases)
    for note in cases.record.get("notes", ()):
        say(note)
    for line in told_excluded(cases.excluded):
        say(line)
    return cases


def _judge_and_write(
    task: Task,
    network: Any,
    cases: PreparedCases,
    run: RunFolder,
    result: TrainingResult,
    *,
    digest: str,
    fold: bool,
    say: Say,
    started: float,
) -> Outcome:
    from pipelines.modelfolder import save_model

    part = "test" if cases.part("test") else "validation"
    device = next(network.parameters()).device
    predictor = task.predictor(network, device=device)
    judged = cases.part(part)
    say(f"judging {len(judged)} {part} cases")
    judgement = judge_cases(task, predictor, judged)
    summary = summarise_judgement(task, judgement, task.config.evaluate, seed=task.config.seed, intervals=not fold)
    write_tables(judgement.table, judgement.predictions, summary, run.evaluation, part)
    if not fold:
        draw_part(task, predictor, judgement, run)
    headline = means_of(summary)
    save_model(run.model, task, network.state_dict(), metrics={"part": part, **headline}, data_digest=digest)
    run.write_json(run.evaluation / "metrics.json", {name: asdict(metric) for name, metric in task.metrics.items()})
    run.update_status(
        best_epoch=result.best_epoch,
        best_score=result.best_score,
        selection_metric=task.selection_metric,
        ranking_metric=task.ranking_metric or task.selection_metric,
        part=part,
        synthetic=bool(task.describe().get("synthetic", False)),
    )
    for notice in result.notices:
        say(notice)
    excluded = {item.case_id: item.reason for item in cases.excluded} | dict(result.excluded)
    return Outcome(run, summary, part, judgement.failures, excluded, time.monotonic() - started)


def means_of(summary: pd.DataFrame) -> dict[str, float]:
    """`class/metric` → mean, where it is defined."""
    rows = summary.to_dict("records")
    return {f"{row['class']}/{row['metric']}": float(row["mean"]) for row in rows if row["mean"] == row["mean"]}


def _read_weights(result: TrainingResult) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(result.weights)


def _empty_summary() -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame()


def is_main_process() -> bool:
    """Whether this is the process that writes, in a distributed launch."""
    return int(os.environ.get("RANK", "0")) == 0


def now() -> str:
    """The time, for records."""
    return datetime.now(UTC).isoformat(timespec="seconds")
