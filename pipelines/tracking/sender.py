"""The process beside a tracked run that delivers its journal: `python -m pipelines.tracking.sender RUN`.

It is a process of its own so that a server that hangs, a slow disk or MLflow's own weight never reach the training
process. Its standard input is a pipe from that process: when the pipe closes, the run has ended in whatever way, and
the sender delivers what is left and ends.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.runs import RunFolder
from pipelines.tracking.delivery import Delivery
from pipelines.tracking.journal import JOURNAL, Journal, read_events

__all__ = ["close_abandoned", "delivery_lock", "main"]

_POLL_SECONDS = 1.0
_LONGEST_PAUSE = 60.0
_LAST_ATTEMPTS = 2


def delivery_lock(run: RunFolder) -> FileLock:
    """Held by whoever delivers the journal of a run."""
    return FileLock(run.tracking / "delivery.lock")


def close_abandoned(run: RunFolder) -> None:
    """Notes that a run was killed when its journal does not say how it ended."""
    journal = run.tracking / JOURNAL
    state = ""
    for event, _ in read_events(journal):
        if event["event"] == "state":
            state = event["state"]
    if state == "RUNNING":
        writer = Journal(journal)
        writer.append({"event": "state", "state": "KILLED", "time": int(time.time() * 1000)}, durable=True)
        writer.close()


def main(arguments: list[str]) -> int:
    """Delivers until the training process ends and nothing is left. Returns 0, or 1 when something is left."""
    run = RunFolder(Path(arguments[0]))
    with contextlib.suppress(OSError):
        os.nice(10)
    ended = threading.Event()
    threading.Thread(target=_watch_parent, args=(ended,), daemon=True).start()
    try:
        with delivery_lock(run).acquire(timeout=_LONGEST_PAUSE):
            return _deliver_until_end(run, ended)
    except Timeout:
        print("another process is delivering this run", file=sys.stderr)  # noqa: T201
        return 1


def _deliver_until_end(run: RunFolder, ended: threading.Event) -> int:
    delivery = Delivery(run)
    pause, failures = _POLL_SECONDS, 0
    while True:
        last = ended.is_set()
        if last:
            close_abandoned(run)
        try:
            delivery.deliver()
            if last:
                return 0
            pause, failures = _POLL_SECONDS, 0
        except Exception as error:  # noqa: BLE001 - whatever the store does, the journal keeps it and it is tried again
            print(f"not delivered, will try again: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
            failures += 1
            if last and failures >= _LAST_ATTEMPTS:
                return 1
            pause = min(pause * 2, _LONGEST_PAUSE)
        ended.wait(pause) if not last else time.sleep(_POLL_SECONDS)


def _watch_parent(ended: threading.Event) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 4096):
            pass
    ended.set()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
