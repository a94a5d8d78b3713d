"""Prepared cases, held in memory as far as a limit allows and prepared again beyond it.

store = CaseStore(prepare, size=lambda picture: picture.nbytes, limit=2**30)
store.warm(cases)   # before worker processes start, so that they share what is held
picture = store[case]
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from pipelines.cases import Case
from pipelines.errors import CaseError

__all__ = ["CaseStore"]

Prepared = TypeVar("Prepared")


class CaseStore(Generic[Prepared]):
    """Cases by themselves: what `prepare` made of one, the first time that it is asked for.

    It may be asked from several threads, and goes to worker processes with all that it holds.

    Args:
        prepare: Case → what is held; the same each time, and picklable where workers are spawned.
        size: Bytes that one takes.
        limit: Bytes that all together may take.
    """

    def __init__(self, prepare: Callable[[Case], Prepared], *, size: Callable[[Prepared], int], limit: int) -> None:
        self._prepare = prepare
        self._size = size
        self._free = limit
        self._held: dict[str, Prepared] = {}
        self._lock = threading.Lock()

    def __getitem__(self, case: Case) -> Prepared:
        """The prepared case. Raises what `prepare` raises."""
        held = self._held.get(case.case_id)
        if held is None:
            held = self._prepare(case)
            size = self._size(held)
            with self._lock:
                if case.case_id not in self._held and size <= self._free:
                    self._held[case.case_id] = held
                    self._free -= size
        return held

    def warm(self, cases: Sequence[Case], *, threads: int = 4) -> None:
        """Prepares cases until memory is used up; one that cannot be prepared is reported when it is drawn."""

        def prepare(case: Case) -> None:
            if self._free > 0:
                try:
                    self[case]
                except CaseError:
                    return

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(prepare, cases))

    def __getstate__(self) -> dict[str, Any]:
        # A lock belongs to its process; another one, started by spawning, makes its own.
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()
