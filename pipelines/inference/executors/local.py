"""Workers as processes of this machine."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from pipelines.inference.executors import Death, WorkerHandle
from pipelines.inference.messages import Message, Request
from pipelines.inference.source import PredictorSource
from pipelines.inference.worker import Worker

__all__ = ["LocalExecutor"]

_GRACE_SECONDS = 5.0


class _Process:
    """A worker process and the pipe to it."""

    def __init__(self, process: BaseProcess, connection: Connection, kills: int) -> None:
        self.process = process
        self.connection = connection
        self.kills_before = kills
        self.alive = True

    def send(self, request: Request | None) -> None:
        # A worker that is gone is reported by `wait`, with all that it said before.
        with suppress(OSError):
            self.connection.send(request)

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            self.process.kill()
            self.process.join()
            self.connection.close()


class LocalExecutor:
    """Spawned processes. A worker whose parent is gone ends at once."""

    def __init__(self, source: PredictorSource) -> None:
        self._source = source
        self._context = multiprocessing.get_context("spawn")
        self._processes: list[_Process] = []

    def start(self, index: int, workers: int) -> _Process:
        """Starts a process."""
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_work, args=(self._source, theirs, index, workers), name=f"predict-{index}", daemon=True
        )
        with _signals_blocked():
            process.start()
        theirs.close()
        handle = _Process(process, ours, _out_of_memory_kills())
        self._processes.append(handle)
        return handle

    def wait(self, handles: Sequence[WorkerHandle], timeout: float) -> list[tuple[WorkerHandle, Message | Death]]:
        """What the processes have said."""
        by_connection = {process.connection: process for process in self._processes if process.alive}
        if not by_connection:
            return []
        heard: list[tuple[WorkerHandle, Message | Death]] = []
        for connection in wait(list(by_connection), timeout):
            process = by_connection[connection]  # type: ignore[index]
            try:
                while process.connection.poll():
                    heard.append((process, process.connection.recv()))
            except (EOFError, OSError):
                heard.append((process, self._bury(process)))
        return heard

    def close(self) -> None:
        """Kills what still runs."""
        for process in self._processes:
            process.kill()
        self._processes.clear()

    def _bury(self, process: _Process) -> Death:
        process.process.join(_GRACE_SECONDS)
        code = process.process.exitcode
        process.kill()
        self._processes.remove(process)
        if code is None or code >= 0:
            return Death(f"the worker ended by itself (exit code {code})")
        if code == -signal.SIGKILL and _out_of_memory_kills() > process.kills_before:
            return Death("the system ran out of memory and killed the worker", out_of_memory=True)
        name = signal.Signals(-code).name if -code in set(signal.Signals) else "unknown"
        return Death(f"worker killed (signal {-code}, {name})")


def _work(source: PredictorSource, connection: Connection, index: int, workers: int) -> None:
    """The whole life of a worker process."""
    # The terminal sends Ctrl-C to every process of the group; only the batch decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # What libraries print must not get into the batch's own output.
    os.dup2(2, 1)
    sending = threading.Lock()

    def send(message: Message) -> None:
        with sending:
            connection.send(message)

    worker = Worker(source, send, index=index, workers=workers)

    def listen() -> None:
        while True:
            try:
                request: Request | None = connection.recv()
            except (EOFError, OSError):
                os._exit(1)
            worker.submit(request)

    threading.Thread(target=listen, name="listen", daemon=True).start()
    try:
        worker.run()
    except (BrokenPipeError, ConnectionResetError):
        os._exit(1)
    # Skips the teardown of libraries, which may hang or crash when all work is done.
    os._exit(0)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """Children begin with these signals blocked, so that a Ctrl-C while they start does not end them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _out_of_memory_kills() -> int:
    """How often the kernel has killed a process for its memory; 0 where it does not say."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
