"""Workers as actors of a Ray cluster, whose machines share the inputs, the model and the output folder."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from pipelines.errors import EnvironmentProblem
from pipelines.inference.executors import Death, WorkerHandle
from pipelines.inference.messages import Message, Request
from pipelines.inference.source import PredictorSource
from pipelines.inference.worker import Worker

__all__ = ["RayExecutor"]

_LISTEN_SECONDS = 5.0


class _Actor:
    """Runs on the cluster: a worker in a thread, and a queue of what it has said."""

    def __init__(self, source: PredictorSource, index: int, workers: int) -> None:
        self._said: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._worker = Worker(source, self._said.put, index=index, workers=workers)
        threading.Thread(target=self._worker.run, name="compute", daemon=True).start()

    def submit(self, request: Request | None) -> None:
        """Hands over a request."""
        self._worker.submit(request)

    def listen(self) -> list[Message]:
        """What was said since the last call; waits a few seconds for the first word."""
        heard: list[Message] = []
        with suppress(queue.Empty):
            heard.append(self._said.get(timeout=_LISTEN_SECONDS))
            while True:
                heard.append(self._said.get_nowait())
        return heard


class _ActorHandle:
    """An actor, and what it was last asked to tell."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray = ray
        self.actor = actor
        self.pending = actor.listen.remote()
        self.alive = True

    def send(self, request: Request | None) -> None:
        self.actor.submit.remote(request)

    def kill(self) -> None:
        if self.alive:
            self.alive = False
            self._ray.kill(self.actor)


class RayExecutor:
    """Ray actors.

    Args:
        source: Where the predictor comes from.
        address: The cluster; None joins the one that the environment names, or starts one here.

    Raises:
        EnvironmentProblem: Ray is not installed, or the cluster does not answer.
    """

    def __init__(self, source: PredictorSource, *, address: str | None = None) -> None:
        try:
            import ray
        except ImportError as error:
            raise EnvironmentProblem(
                "the executor 'ray' needs Ray", hint="Install it with: pip install 'pulvinar[cluster]'"
            ) from error
        self._ray: Any = ray
        self._source = source
        self._handles: list[_ActorHandle] = []
        self._started = not ray.is_initialized()
        if self._started:
            # Ray raises bare exceptions when a cluster does not start.
            try:
                ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
            except Exception as error:
                where = f"at {address}" if address else "on this machine"
                raise EnvironmentProblem(f"the Ray cluster {where} does not answer: {error}") from error

    def start(self, index: int, workers: int) -> _ActorHandle:
        """Starts an actor; it takes a GPU where the cluster has them."""
        gpus = 1 if self._ray.cluster_resources().get("GPU", 0) >= 1 else 0
        actor_class = self._ray.remote(num_cpus=1, num_gpus=gpus, max_concurrency=4, max_restarts=0)(_Actor)
        handle = _ActorHandle(self._ray, actor_class.remote(self._source, index, workers))
        self._handles.append(handle)
        return handle

    def wait(self, handles: Sequence[WorkerHandle], timeout: float) -> list[tuple[WorkerHandle, Message | Death]]:
        """What the actors have said."""
        by_pending = {handle.pending: handle for handle in self._handles if handle.alive}
        if not by_pending:
            time.sleep(timeout)
            return []
        ready, _ = self._ray.wait(list(by_pending), num_returns=1, timeout=timeout)
        heard: list[tuple[WorkerHandle, Message | Death]] = []
        for reference in ready:
            handle = by_pending[reference]
            try:
                messages = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                heard.append((handle, self._bury(handle, error)))
                continue
            handle.pending = handle.actor.listen.remote()
            heard.extend((handle, message) for message in messages)
        return heard

    def close(self) -> None:
        """Ends the actors, and the cluster if it was started here."""
        for handle in self._handles:
            handle.kill()
        self._handles.clear()
        if self._started:
            self._ray.shutdown()

    def _bury(self, handle: _ActorHandle, error: Exception) -> Death:
        handle.alive = False
        self._handles.remove(handle)
        memory = isinstance(error, self._ray.exceptions.OutOfMemoryError)
        reason = "the worker ran out of memory" if memory else "the worker's process or machine ended"
        return Death(reason, out_of_memory=memory, heard_all=False)
