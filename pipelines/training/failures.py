"""Failures of a training, in words that say which cases, when, and what to do."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import torch

from pipelines.errors import EnvironmentProblem, TrainingError

__all__ = ["explained", "not_finite", "worker_problems"]

_NO_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "Cannot allocate memory")
_LOST_WORKER = ("DataLoader worker", "exited unexpectedly")


def not_finite(
    *,
    losses: Sequence[float],
    norm: float | None,
    case_ids: Sequence[Sequence[str]],
    epoch: int,
    step: int,
    lr: float,
) -> TrainingError | None:
    """The error for a loss or a gradient that is not finite, or None where all are.

    Args:
        losses: Loss of each batch of the step.
        norm: Norm of the gradient, where it is known and meaningful.
        case_ids: Cases of each batch.
        epoch: From 1.
        step: Optimizer step, from 1.
        lr: Learning rate of the step.
    """
    wrong = [index for index, loss in enumerate(losses) if not math.isfinite(loss)]
    if wrong:
        what = f"the loss became {losses[wrong[0]]}"
    elif norm is not None and not math.isfinite(norm):
        what, wrong = f"the norm of the gradient became {norm}", list(range(len(losses)))
    else:
        return None
    cases = [case_id for index in wrong for case_id in case_ids[index]]
    return TrainingError(
        f"{what} in epoch {epoch}, optimizer step {step}, learning rate {lr:.3g}{_of(cases)}",
        hint="Look at these cases (`pulvinar validate` checks them all); if they are sound, lower train.lr, "
        "lengthen train.schedule.warmup_epochs, set train.clip_norm, or use train.precision=fp32.",
    )


@contextmanager
def explained(*, case_ids: Sequence[str], epoch: int, step: int, batch_size: int) -> Iterator[None]:
    """Turns running out of memory in one optimizer step into a `TrainingError`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        on_device = isinstance(error, torch.OutOfMemoryError)
        if not on_device and not isinstance(error, MemoryError) and not _says(error, _NO_MEMORY):
            raise
        place = "the GPU" if on_device else "the machine"
        raise TrainingError(
            f"{place} ran out of memory in epoch {epoch}, optimizer step {step}, with batches of {batch_size}"
            f"{_of(case_ids)}",
            hint="Lower train.batch_size (train.accumulate makes up for it), make the patch smaller, or use "
            "train.precision=bf16; then start again or --resume an unchanged run on a larger machine.",
        ) from error


@contextmanager
def worker_problems(workers: int) -> Iterator[None]:
    """Turns the death of a loader process into an `EnvironmentProblem`."""
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:
        broken = workers > 0 and isinstance(error, ConnectionError | EOFError)
        if not broken and not _says(error, _LOST_WORKER):
            raise
        if broken:
            _await_worker_signal()
        raise EnvironmentProblem(
            f"one of the {workers} processes that prepare samples was killed: {str(error).splitlines()[0]}",
            hint="Most often the machine ran out of memory. Lower train.workers, then type the same command with "
            "--resume.",
        ) from error


def _await_worker_signal() -> None:
    """PyTorch raises from a signal handler when a loader process dies: here, and not in whatever comes next."""
    with suppress(RuntimeError):
        time.sleep(1)


def _says(error: BaseException, phrases: Sequence[str]) -> bool:
    return any(phrase in str(error) for phrase in phrases)


def _of(cases: Sequence[str]) -> str:
    return f"; cases: {', '.join(dict.fromkeys(cases))}" if cases else ""
