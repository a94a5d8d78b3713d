"""What a training tells others: excluded cases and tracked metrics; and the lock on its folder."""

from __future__ import annotations

import csv
import fcntl
import io
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from pipelines.errors import EnvironmentProblem
from pipelines.runs import RunFolder, write_atomically

__all__ = ["MetricSink", "SafeMetrics", "folder_lock", "record_excluded"]


class MetricSink(Protocol):
    """What tracks metrics."""

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        """Logs numbers of one step."""


class SafeMetrics:
    """Passes metrics on to a tracker; one that fails is reported once and never stops the training.

    Args:
        tracker: Where metrics go; None for nowhere.
        say: Where the report goes.
    """

    def __init__(self, tracker: MetricSink | None, say: Callable[[str], None]) -> None:
        self._tracker = tracker
        self._say = say
        self._reported = False

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Logs the values that are numbers."""
        if self._tracker is None:
            return
        try:
            self._tracker.log_metrics({name: value for name, value in values.items() if value == value}, step)
        except Exception as error:  # noqa: BLE001 (whatever tracking does, the training goes on)
            if not self._reported:
                self._say(f"tracking failed, training goes on: {type(error).__name__}: {error}")
            self._reported = True


def record_excluded(run: RunFolder, excluded: Mapping[str, str]) -> None:
    """Adds cases to `excluded.csv`, keeping what stands there; a case is listed once."""
    text = run.excluded.read_text() if run.excluded.is_file() else ""
    reader = csv.DictReader(io.StringIO(text))
    rows = list(reader)
    columns = list(reader.fieldnames or ())
    columns += [name for name in ("case_id", "reason") if name not in columns]
    known = {row.get("case_id") for row in rows}
    rows += [{"case_id": case_id, "reason": why} for case_id, why in excluded.items() if case_id not in known]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(run.excluded, buffer.getvalue())


@contextmanager
def folder_lock(folder: Path) -> Iterator[None]:
    """Holds a folder for this process, until it ends or dies.

    Raises:
        EnvironmentProblem: Another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(handle, 20).decode().strip()
            raise EnvironmentProblem(
                f"another process ({holder or 'unknown'}) is training in this run folder",
                hint="Wait for it or stop it; or start a new run without --resume.",
            ) from None
        except OSError:
            # Some network file systems have no locks; training without one is better than none.
            yield
            return
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        yield
    finally:
        os.close(handle)
