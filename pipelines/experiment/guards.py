"""What surrounds a run: one process at a time in a run folder, and signals that end it in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pipelines.errors import ConfigurationError, Interrupted
from pipelines.runs import RunFolder

__all__ = ["alone_in", "signals_interrupt"]


@contextmanager
def alone_in(run: RunFolder) -> Iterator[None]:
    """Holds the run folder; the hold ends with the process, however it ends.

    Raises:
        ConfigurationError: Another process is at work in it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(run.root / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ConfigurationError(
            f"{run.root} is being worked on by another process", hint="Wait for it, or stop it, before you resume."
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def signals_interrupt() -> Iterator[None]:
    """SIGTERM raises `Interrupted` where nothing else handles it (training does, and saves its state first)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise Interrupted("stopped by SIGTERM", hint="The same command with --resume goes on.")

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
