"""The journal of a run: every tracked event, one JSON object to a line, appended before anything is sent.

Lines are appended with a single write and survive a killed process; a line that a full disk or a power cut tore is
closed by the next writer and skipped by readers. Readers go on from a byte offset that they keep themselves.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

__all__ = ["Journal", "read_events"]

JOURNAL = "journal.jsonl"


class Journal:
    """Appends events to a file; safe to use from several threads.

    Args:
        path: The file; made with its folder when missing.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        size = os.fstat(self._handle).st_size
        if size and os.pread(self._handle, 1, size - 1) != b"\n":
            os.write(self._handle, b"\n")

    def append(self, event: Mapping[str, Any], *, durable: bool = False) -> None:
        """Appends one event. `durable` waits until the disk has it. Raises `OSError` when the disk is full."""
        line = json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace") + b"\n"
        with self._lock:
            if os.write(self._handle, line) != len(line):
                os.write(self._handle, b"\n")
                raise OSError(28, "the disk is full")
            if durable:
                os.fsync(self._handle)

    def close(self) -> None:
        """Closes the file; what was appended stays."""
        with self._lock:
            if self._handle >= 0:
                os.close(self._handle)
                self._handle = -1


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[dict[str, Any], int]]:
    """Yields each whole event from `offset` on, with the offset behind it. Torn lines are passed over."""
    if not path.is_file():
        return
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                yield event, offset
