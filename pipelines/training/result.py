"""What a training came to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["StopReason", "TrainingResult"]

StopReason = Literal["all epochs done", "no improvement", "time is up"]


@dataclass(frozen=True)
class TrainingResult:
    """The end of a training.

    Attributes:
        best_epoch: Epoch (from 1) of the kept weights; the last one where nothing could be validated.
        best_score: Mean of the selection metric there; None where nothing could be validated.
        epochs_done: Epochs trained, the last one perhaps cut short by `max_minutes`.
        steps_done: Optimizer steps.
        stopped_why: `all epochs done`, `no improvement` or `time is up`.
        weights: The kept weights, a safetensors file that `network.load_state_dict(load_file(weights))` takes.
        seconds: Time spent training and validating, over all resumed sessions.
        excluded: Cases set aside while training, with reasons.
        notices: What the reader of a report should know, for example that the weights were not chosen by validation.
    """

    best_epoch: int
    best_score: float | None
    epochs_done: int
    steps_done: int
    stopped_why: StopReason
    weights: Path
    seconds: float
    excluded: tuple[tuple[str, str], ...] = ()
    notices: tuple[str, ...] = ()
