"""Signals that ask a training to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from pipelines.errors import Interrupted

__all__ = ["StopSignals"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """While entered, the first SIGINT or SIGTERM is noted, and the second one raises `Interrupted` at once.

    A third one does what it did before. Outside the main thread, where Python takes no handlers, nothing is caught.
    """

    def __init__(self, on_first: Callable[[str], None] = lambda name: None) -> None:
        self.received = ""
        """Name of the signal, empty until one comes."""
        self._on_first = on_first
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if self.received:
            self._restore()
            raise Interrupted(
                f"stopped at once by a second signal ({name}); what came after the last checkpoint is lost",
                hint="Type the same command with --resume to go on from the last checkpoint.",
            )
        self.received = name
        self._on_first(name)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
