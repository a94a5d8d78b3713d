"""Delivers later what a tracking server did not receive while a run was going on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from filelock import Timeout

from pipelines.errors import EnvironmentProblem
from pipelines.runs import RunFolder
from pipelines.tracking.delivery import Delivery, read_state
from pipelines.tracking.journal import JOURNAL, read_events
from pipelines.tracking.privacy import Scrubber
from pipelines.tracking.sender import close_abandoned, delivery_lock
from pipelines.tracking.settings import mask_password
from pipelines.tracking.target import Target

__all__ = ["SyncReport", "sync", "waiting_events"]


@dataclass(frozen=True)
class SyncReport:
    """What a delivery did.

    Attributes:
        run_id: The MLflow run, empty when it could not be reached.
        store: The store, without a password.
        delivered: Events that were delivered now.
        waiting: Events that are still in the journal.
        refused: Events that the store will not take, ever; they are in `tracking/refused.jsonl` with reasons.
        problem: Why something is still waiting.
    """

    run_id: str
    store: str
    delivered: int
    waiting: int
    refused: int
    problem: str = ""

    def __str__(self) -> str:
        refused = f", {self.refused} refused (tracking/refused.jsonl says why)" if self.refused else ""
        waiting = f", {self.waiting} still waiting: {self.problem}" if self.waiting or self.problem else ""
        return f"{self.delivered} delivered to {self.store}{refused}{waiting}"

    def as_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"complete": self.complete}

    @property
    def complete(self) -> bool:
        """Whether everything has been delivered."""
        return not self.waiting and not self.problem


def waiting_events(run: RunFolder) -> int:
    """How many events of a run have not been delivered. Cheap: MLflow is not imported."""
    offset = read_state(run).get("offset", 0)
    return sum(1 for _ in read_events(run.tracking / JOURNAL, offset))


def sync(run: RunFolder, *, uri: str | None = None) -> SyncReport:
    """Delivers the rest of a run's journal; a second call finds nothing to do.

    Args:
        run: The run folder.
        uri: Deliver to this store and not to the one the run was opened with; everything is sent there.

    Raises:
        EnvironmentProblem: The run was not tracked, or its own process is still running and delivering.
    """
    store = mask_password(uri) if uri is not None else Target.read(run).store_uri(run)
    lock = delivery_lock(run)
    try:
        lock.acquire(timeout=1)
    except Timeout:
        raise EnvironmentProblem(
            f"{run.root.name} is being delivered right now by another process",
            hint="Wait until the run has ended, then type the command again.",
        ) from None
    try:
        close_abandoned(run)
        delivery = Delivery(run, uri=uri)
        before, problem = delivery.waiting, ""
        try:
            delivery.deliver()
        except Exception as error:  # noqa: BLE001 - the report says what the store answered; the journal keeps the rest
            problem = Scrubber(run.root, run.root.parent).text(f"{type(error).__name__}: {error}")[:500]
        left = delivery.waiting
        state = read_state(run)
        return SyncReport(
            run_id=state.get("run_id", ""),
            store=store,
            delivered=max(before - left, 0),
            waiting=left,
            refused=state.get("refused", 0),
            problem=problem,
        )
    finally:
        lock.release()
