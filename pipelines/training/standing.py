"""Where a training stands: all counters, the history and the best score, as a checkpoint keeps them."""

from __future__ import annotations

import csv
import io
from dataclasses import asdict, dataclass, field
from typing import Any, Self

__all__ = ["Standing", "history_text"]

_FIRST_COLUMNS = ("epoch", "step", "seconds", "lr", "cases_per_second", "train/loss")


@dataclass
class Standing:
    """Counters of a training.

    Attributes:
        epoch: Epochs that are closed (trained, and validated where due).
        steps_in_epoch: Optimizer steps of the open epoch.
        step: Optimizer steps of the whole training.
        seconds: Time spent by sessions up to now.
        epoch_seconds: Time spent in the open epoch.
        sums: Loss part → its sum over the batches of the open epoch.
        best_score: Best mean of the selection metric; None before there is one.
        best_epoch: Its epoch, from 1.
        waited: Validations since then.
        finished: Why the training ended; empty while it goes on.
        rows: One row of `history.csv` for each closed epoch.
        excluded: Case → reason, of the cases set aside.
    """

    epoch: int = 0
    steps_in_epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    best_score: float | None = None
    best_epoch: int = 0
    waited: int = 0
    finished: str = ""
    rows: list[dict[str, float]] = field(default_factory=list)
    excluded: dict[str, str] = field(default_factory=dict)

    def to_state(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The inverse of `to_state`."""
        return cls(**state)


def history_text(rows: list[dict[str, float]]) -> str:
    """`history.csv`: a line for each epoch, a column for each name that occurs in any; not a number is left empty."""
    names = {name: None for row in rows for name in row}
    columns = [name for name in _FIRST_COLUMNS if name in names]
    columns += [name for name in names if name not in _FIRST_COLUMNS]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow(["" if (value := row.get(name)) is None or value != value else value for name in columns])
    return buffer.getvalue()
