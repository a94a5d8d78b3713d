"""What a batch tells while it works, and what it says at the end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipelines.errors import ExitCode

__all__ = ["OUTCOMES", "BatchSummary", "Event", "FailedItem"]

OUTCOMES = ("ok", "skipped", "failed", "timeout", "out_of_memory")
"""How an item can end."""


@dataclass(frozen=True)
class Event:
    """Something that happened.

    Attributes:
        kind: `note` (nothing happened to an item), `found` (the items are known), `started`, `retry`, `outcome`
            (the item has ended, `outcome` says how), `stopped` (the rest is not attempted).
        item_id: The item it happened to; empty for the batch.
        outcome: One of `OUTCOMES`, for `outcome` and `retry`.
        reason: Why, in one sentence.
        seconds: What the item took (read, compute and write), for `outcome`.
        done: Items that have ended so far.
        total: Items in the batch.
    """

    kind: Literal["note", "found", "started", "retry", "outcome", "stopped"]
    item_id: str = ""
    outcome: str = ""
    reason: str = ""
    seconds: float = 0.0
    done: int = 0
    total: int = 0

    def line(self) -> str:
        """The event as a line of a log."""
        if self.kind == "found":
            return f"{self.total} item{'' if self.total == 1 else 's'} found"
        if self.kind == "started":
            return f"{self.item_id}: started"
        if self.kind == "retry":
            return f"{self.item_id}: {self.outcome}, tried again: {self.reason}"
        if self.kind == "outcome":
            took = f" in {self.seconds:.1f} s" if self.outcome == "ok" else ""
            why = f": {self.reason}" if self.reason else ""
            return f"[{self.done}/{self.total}] {self.item_id}: {self.outcome}{took}{why}"
        return self.reason


@dataclass(frozen=True)
class FailedItem:
    """An item without a result, and why."""

    item_id: str
    outcome: str
    reason: str
    source: str = ""


@dataclass(frozen=True)
class BatchSummary:
    """How a batch ended.

    Attributes:
        counts: Outcome → number of items.
        failures: Items without a result.
        not_attempted: Items that were left because the batch stopped early.
        stopped: Why it stopped early; empty otherwise.
        out: The output folder.
        ledger: The ledger's table.
        seconds: How long the call took.
    """

    counts: Mapping[str, int]
    failures: tuple[FailedItem, ...]
    not_attempted: int
    stopped: str
    out: Path
    ledger: Path
    seconds: float
    device: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def total(self) -> int:
        """Items found."""
        return sum(self.counts.values()) + self.not_attempted

    @property
    def exit_code(self) -> ExitCode:
        """0 when every item has a result, 3 when some have none."""
        return ExitCode.SOME_FAILED if self.failures or self.not_attempted else ExitCode.OK

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for `--json`."""
        return {
            "counts": dict(self.counts),
            "failures": [
                {"item_id": item.item_id, "outcome": item.outcome, "reason": item.reason, "source": item.source}
                for item in self.failures
            ],
            "not_attempted": self.not_attempted,
            "stopped": self.stopped,
            "notes": list(self.notes),
            "out": str(self.out),
            "ledger": str(self.ledger),
            "seconds": round(self.seconds, 3),
            "device": self.device,
            "exit_code": int(self.exit_code),
        }
