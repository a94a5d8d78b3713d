"""Hands jobs to workers, and decides what a silence, a death or an error means for the jobs inside.

A worker has several jobs inside at once: one is read, one computed, one written. When it dies with more than one of
them at work, each of those is tried again alone: the one that kills is found, and the others do not go down with it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from pipelines.errors import EnvironmentProblem
from pipelines.inference.executors import Death, Executor, WorkerHandle
from pipelines.inference.messages import (
    Attempt,
    Broken,
    Completed,
    Discover,
    Discovered,
    Entered,
    Job,
    Left,
    Message,
    Ready,
    Stage,
    Unsuccessful,
)
from pipelines.inference.settings import BatchSettings
from pipelines.task import Item

__all__ = ["Ended", "Retried", "Scheduler", "Started", "Update"]

_PATIENCE_SECONDS = 0.2
_BARREN_STARTS = 3


@dataclass(frozen=True)
class Started:
    """A job was handed to a worker."""

    job: Job
    attempt: int


@dataclass(frozen=True)
class Retried:
    """An attempt ended badly and another follows; `job.staging` of the attempt can go."""

    job: Job
    outcome: str
    reason: str


@dataclass(frozen=True)
class Ended:
    """A job has ended: with a result, or for good without one."""

    job: Job
    attempts: int
    outcome: Literal["ok", "failed", "timeout", "out_of_memory"]
    result: Completed | None = None
    reason: str = ""
    detail: str = ""
    seconds: Attempt = field(default_factory=Attempt)


Update = Started | Retried | Ended


@dataclass
class _Flight:
    """A job inside a worker."""

    job: Job
    stage: Stage | None = None
    entered: float = 0.0
    spent: float = 0.0

    def seconds(self) -> float:
        """What its stages took so far; waiting between them does not count."""
        return self.spent + (time.monotonic() - self.entered if self.stage else 0.0)


@dataclass(eq=False)
class _Lane:
    """A worker and the jobs inside."""

    handle: WorkerHandle
    index: int
    flights: dict[int, _Flight] = field(default_factory=dict)
    alone: bool = False
    ready: bool = False


class Scheduler:
    """Works through jobs.

    Args:
        executor: Where workers run.
        settings: How many, how long, how often.
        staging: `(job number, attempt)` → a new staging folder.
        stop: Asked between any two steps; true ends the work at once.
    """

    def __init__(
        self,
        executor: Executor,
        settings: BatchSettings,
        *,
        staging: Callable[[int, int], Path],
        stop: Callable[[], bool],
    ) -> None:
        self._executor = executor
        self._settings = settings
        self._staging = staging
        self._stop = stop
        self._lanes: list[_Lane] = []
        self._waiting: deque[Job] = deque()
        self._alone: deque[Job] = deque()
        self._attempts: dict[int, int] = {}
        self._tries: dict[int, int] = {}
        self._updates: deque[Update] = deque()
        self._discovered: list[Item] | None = None
        self._workers = settings.workers or 1
        self._barren = 0
        self.device = ""

    def discover(self, inputs: tuple[Path, ...]) -> list[Item]:
        """Has a worker look for items. Raises `PulvinarError`."""
        self._discovered = None
        lane = self._lanes[0] if self._lanes else self._open_lane()
        lane.handle.send(Discover(inputs))
        while self._discovered is None and not self._stop():
            if lane not in self._lanes:
                lane = self._open_lane()
                lane.handle.send(Discover(inputs))
            self._listen(_PATIENCE_SECONDS)
        return self._discovered or []

    def run(self, next_job: Callable[[], Job | None], exhausted: Callable[[], bool]) -> Iterator[Update]:
        """Works through jobs until there are none; ends early, with jobs left inside, once `stop` says so.

        Args:
            next_job: The next job, or None when none is known yet.
            exhausted: Whether `next_job` will give no more.
        """
        while not self._stop():
            self._assign(next_job)
            yield from self._drain()
            inside = any(lane.flights for lane in self._lanes)
            if not inside and not self._waiting and not self._alone and exhausted():
                return
            self._listen(_PATIENCE_SECONDS if inside else 0.02)
            self._end_overdue()
            yield from self._drain()

    def _drain(self) -> Iterator[Update]:
        while self._updates:
            yield self._updates.popleft()

    @property
    def _depth(self) -> int:
        return self._settings.prefetch + 2 if self._settings.prefetch else 1

    def _open_lane(self) -> _Lane:
        used = {lane.index for lane in self._lanes}
        index = next(number for number in range(len(used) + 1) if number not in used)
        lane = _Lane(self._executor.start(index, self._workers), index)
        self._lanes.append(lane)
        return lane

    def _assign(self, next_job: Callable[[], Job | None]) -> None:
        """Gives jobs to workers: one to each first, and more to read ahead only once all workers have one."""
        reserved = self._place_those_alone()
        while True:
            lanes = [lane for lane in self._lanes if lane.ready and not lane.alone and lane is not reserved]
            lane = min(lanes, key=lambda lane: len(lane.flights), default=None)
            if lane is None or lane.flights:
                if self._open_for(next_job):
                    continue
                if self._starting or lane is None or len(lane.flights) >= self._depth:
                    return
            job = self._waiting.popleft() if self._waiting else next_job()
            if job is None:
                return
            self._hand(lane, job, alone=False)

    def _open_for(self, next_job: Callable[[], Job | None]) -> bool:
        """Starts a worker if one may be started and there is a job that no other worker that starts will take."""
        if len(self._lanes) >= self._workers:
            return False
        while len(self._waiting) <= self._starting:
            job = next_job()
            if job is None:
                return False
            self._waiting.append(job)
        self._open_lane()
        return True

    @property
    def _starting(self) -> int:
        return sum(not lane.ready for lane in self._lanes)

    def _place_those_alone(self) -> _Lane | None:
        """Gives jobs that must be alone an empty worker each; where all are busy, the one returned is left to empty."""
        while self._alone:
            lane = next((lane for lane in self._lanes if lane.ready and not lane.flights), None)
            if lane is None:
                break
            self._hand(lane, self._alone.popleft(), alone=True)
        if not self._alone or self._starting:
            return None
        if len(self._lanes) < self._workers:
            self._open_lane()
            return None
        return min(self._lanes, key=lambda lane: len(lane.flights))

    def _hand(self, lane: _Lane, job: Job, *, alone: bool) -> None:
        self._tries[job.number] = self._tries.get(job.number, 0) + 1
        job = replace(job, staging=self._staging(job.number, self._tries[job.number]))
        lane.flights[job.number] = _Flight(job)
        lane.alone = alone
        lane.handle.send(job)
        self._updates.append(Started(job, self._attempts.get(job.number, 0) + 1))

    def _listen(self, timeout: float) -> None:
        for handle, message in self._executor.wait([lane.handle for lane in self._lanes], timeout):
            lane = next((lane for lane in self._lanes if lane.handle is handle), None)
            if lane is None:
                continue
            if isinstance(message, Death):
                self._bury(lane, message)
            else:
                self._hear(lane, message)

    def _hear(self, lane: _Lane, message: Message) -> None:
        match message:
            case Broken():
                raise message.error
            case Ready():
                lane.ready = True
                self.device = self.device or message.device
                self._workers = self._settings.workers or max(self._workers, message.devices)
            case Discovered():
                self._discovered = list(message.items)
            case Entered():
                flight = lane.flights[message.number]
                flight.stage, flight.entered = message.stage, time.monotonic()
            case Left():
                flight = lane.flights[message.number]
                flight.spent, flight.stage = flight.seconds(), None
            case Completed():
                self._barren = 0
                job = self._leave(lane, message.number)
                attempts = self._attempts.get(job.number, 0) + 1
                self._updates.append(Ended(job, attempts, "ok", message, seconds=message.seconds))
            case Unsuccessful():
                self._barren = 0
                self._conclude(self._leave(lane, message.number), message)
                if message.worker_spoilt:
                    self._replace(lane)

    def _leave(self, lane: _Lane, number: int) -> Job:
        flight = lane.flights.pop(number)
        if not lane.flights:
            lane.alone = False
        return flight.job

    def _conclude(self, job: Job, end: Unsuccessful) -> None:
        """An attempt has ended without a result: another one, alone, or the end of the job."""
        attempts = self._attempts[job.number] = self._attempts.get(job.number, 0) + 1
        if end.again and attempts <= self._settings.retries:
            self._alone.append(job)
            self._updates.append(Retried(job, end.outcome, end.reason))
        else:
            self._updates.append(
                Ended(job, attempts, end.outcome, reason=end.reason, detail=end.detail, seconds=end.seconds)
            )

    def _blame(self, flight: _Flight, outcome: Literal["failed", "timeout", "out_of_memory"], reason: str) -> None:
        job, seconds = flight.job, Attempt(compute=round(flight.seconds(), 3))
        attempts = self._attempts[job.number] = self._attempts.get(job.number, 0) + 1
        if attempts <= self._settings.retries:
            self._alone.append(job)
            self._updates.append(Retried(job, outcome, reason))
        else:
            self._updates.append(Ended(job, attempts, outcome, reason=reason, seconds=seconds))

    def _bury(self, lane: _Lane, death: Death) -> None:
        self._lanes.remove(lane)
        if not lane.flights:
            self._barren += 1
            if self._barren >= _BARREN_STARTS:
                raise EnvironmentProblem(
                    f"{_BARREN_STARTS} workers in a row ended without work: {death.reason}",
                    hint="The model may be too large for this machine's memory; see `pulvinar doctor`.",
                )
        # Where the last words may be lost, or none of its jobs was at work, any of them may be to blame.
        suspects = [flight for flight in lane.flights.values() if flight.stage and death.heard_all]
        suspects = suspects or list(lane.flights.values())
        if len(suspects) == 1:
            self._blame(suspects[0], "out_of_memory" if death.out_of_memory else "failed", death.reason)
        else:
            for flight in suspects:
                self._alone.append(flight.job)
                self._updates.append(
                    Retried(flight.job, "failed", f"{death.reason}, with other items inside; now alone")
                )
        others = [flight.job for flight in lane.flights.values() if not any(flight is one for one in suspects)]
        self._waiting.extendleft(reversed(others))

    def _replace(self, lane: _Lane) -> None:
        """Ends a worker; what is inside is handed to another, and none of it is blamed."""
        lane.handle.kill()
        self._lanes.remove(lane)
        self._waiting.extendleft(reversed([flight.job for flight in lane.flights.values()]))

    def _end_overdue(self) -> None:
        limit = self._settings.timeout
        if limit is None:
            return
        for lane in list(self._lanes):
            late = next((flight for flight in lane.flights.values() if flight.stage and flight.seconds() > limit), None)
            if late is not None:
                del lane.flights[late.job.number]
                self._replace(lane)
                self._blame(late, "timeout", f"took longer than {limit:g} s while it was in stage {late.stage!r}")
