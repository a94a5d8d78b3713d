"""Keeps a training on disk: the last and the best checkpoint, the history, and the cases set aside.

In a distributed training only the first process writes; when it cannot, all of them raise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.errors import PulvinarError
from pipelines.runs import RunFolder, write_atomically
from pipelines.training.checkpoints import (
    WEIGHTS,
    Checkpoint,
    disk_problems,
    load_checkpoint,
    remove_checkpoints,
    save_checkpoint,
)
from pipelines.training.processes import Processes
from pipelines.training.records import folder_lock, record_excluded
from pipelines.training.standing import Standing, history_text

__all__ = ["Keeper"]

_LAST, _BEST = "last", "best"


class Keeper:
    """What a training writes to its run folder.

    Args:
        run: The run folder.
        processes: The processes of the training.
    """

    def __init__(self, run: RunFolder, processes: Processes) -> None:
        self._run = run
        self._processes = processes

    def lock(self) -> AbstractContextManager[None]:
        """Holds the folder, so that no second training writes to it. Raises `EnvironmentProblem`."""
        return folder_lock(self._run.checkpoints) if self._processes.first else nullcontext()

    def last(self) -> Checkpoint | None:
        """The last checkpoint; None where there is none. Raises `DataError` when it cannot be read."""
        return self._in_turn(lambda: load_checkpoint(self._run.checkpoints / _LAST))

    def best(self) -> Checkpoint | None:
        """The best checkpoint; None where there is none. Raises `DataError` when it cannot be read."""
        return self._in_turn(lambda: load_checkpoint(self._run.checkpoints / _BEST))

    def weights(self, *, best: bool) -> Path:
        """The file of the best or the last weights."""
        return self._run.checkpoints / (_BEST if best else _LAST) / WEIGHTS

    def clear(self) -> None:
        """Removes what a former training left."""

        def remove() -> None:
            remove_checkpoints(self._run.checkpoints, (_LAST, _BEST))
            self._run.history.unlink(missing_ok=True)

        self._first_only(remove)

    def save_last(self, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        """Puts a checkpoint in place of the last one. Raises `EnvironmentProblem`."""
        self._save(_LAST, weights, state)

    def save_best(self, weights: Mapping[str, Tensor], *, epoch: int, step: int, score: float) -> None:
        """Puts weights in place of the best ones. Raises `EnvironmentProblem`."""
        self._save(_BEST, weights, {"epoch": epoch, "step": step, "score": score})

    def write_records(self, standing: Standing) -> None:
        """Writes `history.csv` and `excluded.csv`. Raises `EnvironmentProblem`."""

        def write() -> None:
            with disk_problems(self._run.history):
                write_atomically(self._run.history, history_text(standing.rows))
                if standing.excluded:
                    record_excluded(self._run, standing.excluded)

        self._first_only(write)

    def _save(self, name: str, weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
        self._first_only(lambda: save_checkpoint(self._run.checkpoints / name, Checkpoint(dict(weights), state)))

    def _first_only(self, action: Callable[[], None]) -> None:
        problem: PulvinarError | None = None
        if self._processes.first:
            try:
                action()
            except PulvinarError as error:
                problem = error
        problem = self._processes.tell(problem)
        if problem is not None:
            raise problem

    def _in_turn(self, load: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """The first process reads before the others: it may have to put a folder back in place."""
        found = load() if self._processes.first else None
        self._processes.tell(None)
        return found if self._processes.first else load()
