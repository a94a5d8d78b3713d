"""One run of a workflow, from cases to report: a single training, or one for each fold of a cross-validation."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

from pipelines.config import ResolvedWorkflow
from pipelines.errors import ConfigurationError, PulvinarError
from pipelines.experiment.crossvalidation import run_folds
from pipelines.experiment.folders import find_resumable, new_run_folder
from pipelines.experiment.guards import alone_in
from pipelines.experiment.single import Outcome, Say, is_main_process, run_once, standing_of
from pipelines.runs import RunFolder

__all__ = ["Outcome", "run_workflow"]


def run_workflow(resolved: ResolvedWorkflow, *, resume: bool = False, say: Say = lambda line: None) -> Outcome:
    """Runs a resolved workflow to its end. In a distributed launch every process calls this; the first one writes.

    Raises:
        DataError: The cases cannot be used.
        TrainingError: Training cannot go on.
        Interrupted: A signal stopped it; `resume=True` continues.
    """
    config = resolved.config
    output = Path(config.output)
    if config.cross_validation is not None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigurationError(
            "cross-validation runs in one process",
            hint="Start one distributed run for each fold: cross_validation=null split.fold=0, and so on.",
        )
    run = _shared_run_folder(
        lambda: find_resumable(output, config) if resume else new_run_folder(output, config.name), config.train.device
    )
    main = is_main_process()
    with alone_in(run) if main else nullcontext():
        say = say if main else lambda line: None
        with standing_of(run, resolved):
            say(f"run folder {run.root}")
            if config.cross_validation is not None:
                return run_folds(resolved, run, resume=resume, say=say)
            return run_once(resolved, run, resume=resume, say=say)


def _shared_run_folder(make: Callable[[], RunFolder], device: Literal["auto", "cpu", "cuda"]) -> RunFolder:
    """The first process makes the folder and tells the others, when there are several."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return make()
    from accelerate import PartialState
    from accelerate.utils import broadcast_object_list

    from pipelines.training import choose_device

    # Accelerate joins processes on a CPU only where it is told that they are on one; training asks in the same way.
    PartialState(cpu=choose_device(device) == "cpu")
    told: list[Any] = [None]
    if is_main_process():
        try:
            told = [make().root]
        except PulvinarError as error:
            told = [error]
    broadcast_object_list(told)
    if isinstance(told[0], PulvinarError):
        raise told[0]
    return RunFolder(Path(told[0]))
