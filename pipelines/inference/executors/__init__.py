"""Where workers run: processes of this machine, or actors of a Ray cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from pipelines.errors import ConfigurationError

if TYPE_CHECKING:
    from pipelines.inference.messages import Message, Request
    from pipelines.inference.settings import BatchSettings
    from pipelines.inference.source import PredictorSource

__all__ = ["Death", "Executor", "WorkerHandle", "open_executor"]


class Death:
    """A worker is gone.

    Attributes:
        reason: What is known of why.
        out_of_memory: Whether the system killed it for its memory.
        heard_all: Whether all that it said has arrived; otherwise what it did last is not known.
    """

    def __init__(self, reason: str, *, out_of_memory: bool = False, heard_all: bool = True) -> None:
        self.reason = reason
        self.out_of_memory = out_of_memory
        self.heard_all = heard_all


class WorkerHandle(Protocol):
    """One worker, seen from the batch."""

    def send(self, request: Request | None) -> None:
        """Hands over a request without waiting for it; None ends the worker when it is through."""

    def kill(self) -> None:
        """Ends the worker at once, whatever it does."""


class Executor(Protocol):
    """Starts workers and hears from them."""

    def start(self, index: int, workers: int) -> WorkerHandle:
        """Starts worker `index` of `workers`."""

    def wait(self, handles: Sequence[WorkerHandle], timeout: float) -> list[tuple[WorkerHandle, Message | Death]]:
        """What workers have said since the last call; waits up to `timeout` seconds for the first word."""

    def close(self) -> None:
        """Ends every worker."""


def open_executor(settings: BatchSettings, source: PredictorSource) -> Executor:
    """The executor that `settings` names. Raises `EnvironmentProblem` when it cannot be used."""
    if settings.executor == "ray":
        from pipelines.inference.executors.ray import RayExecutor

        return RayExecutor(source, address=settings.ray_address)
    if settings.ray_address is not None:
        raise ConfigurationError("ray_address is given, but executor is 'local'; use executor 'ray'")
    from pipelines.inference.executors.local import LocalExecutor

    return LocalExecutor(source)
