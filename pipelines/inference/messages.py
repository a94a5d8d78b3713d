"""What the batch and its workers tell each other. All of it can be sent between processes and machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipelines.errors import PulvinarError
from pipelines.task import Item

__all__ = [
    "Attempt",
    "Broken",
    "Completed",
    "Discover",
    "Discovered",
    "Entered",
    "Job",
    "Left",
    "Message",
    "Output",
    "Ready",
    "Request",
    "Stage",
    "Unsuccessful",
]

Stage = Literal["read", "compute", "write"]


@dataclass(frozen=True)
class Job:
    """One item to predict, and what its result will say about where it came from.

    Attributes:
        number: Unique in one call.
        item: The item.
        input_digest: Content of its files.
        staging: Folder to write into, not yet there.
    """

    number: int
    item: Item
    input_digest: str
    staging: Path


@dataclass(frozen=True)
class Discover:
    """Asks for the items in these inputs."""

    inputs: tuple[Path, ...]


Request = Job | Discover


@dataclass(frozen=True)
class Output:
    """One file of a result: its path relative to the result's folder, its size and its digest."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Attempt:
    """How long the stages of one attempt took, in seconds."""

    read: float = 0.0
    compute: float = 0.0
    write: float = 0.0


@dataclass(frozen=True)
class Ready:
    """A worker has its model; `devices` is how many of its kind the machine has."""

    device: str
    devices: int


@dataclass(frozen=True)
class Broken:
    """A worker cannot start, or the machine cannot go on: the whole batch stops with `error`."""

    error: PulvinarError


@dataclass(frozen=True)
class Discovered:
    """The items in the inputs."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class Entered:
    """A job has entered a stage."""

    number: int
    stage: Stage


@dataclass(frozen=True)
class Left:
    """A job has left a stage and waits for the next."""

    number: int
    stage: Stage


@dataclass(frozen=True)
class Completed:
    """A whole result stands in the staging folder, durable."""

    number: int
    outputs: tuple[Output, ...]
    summary: Mapping[str, Any]
    seconds: Attempt
    device: str


@dataclass(frozen=True)
class Unsuccessful:
    """An attempt ended without a result.

    Attributes:
        outcome: `failed` or `out_of_memory`.
        reason: One sentence.
        detail: Where in the code, for errors without a name.
        again: Whether another attempt may end differently.
        worker_spoilt: Whether the worker must be replaced (a GPU after an error, say).
    """

    number: int
    outcome: Literal["failed", "out_of_memory"]
    reason: str
    detail: str
    seconds: Attempt
    again: bool
    worker_spoilt: bool


Message = Ready | Broken | Discovered | Entered | Left | Completed | Unsuccessful
