"""Cases: the table of what there is to learn from and to be judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["PARTS", "Case", "CaseTable", "Excluded"]

PARTS = ("train", "validation", "test")
"""The parts that cases are divided into, in the order they are told."""


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        case_id: Unique in the table, safe as a file name.
        group: What must not be divided between parts: a patient, an identity, a subject, a source video.
        paths: Role → absolute file, for example `image`, `label`, `mask`. Where an image lies in one file for each
            channel, the roles are `image_0`, `image_1`, …; `files("image")` gives either kind. A `container` is a file
            that holds many cases.
        labels: Values known for the whole case (diagnosis, scanner, site), also used to stratify.
        split: `train`, `validation`, `test`, or empty where it is still to be drawn.
    """

    case_id: str
    group: str
    paths: Mapping[str, Path]
    labels: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""

    def files(self, role: str) -> tuple[Path, ...]:
        """The file of a role, or its numbered files (`role_0`, `role_1`, …) in order; empty where there is none."""
        if role in self.paths:
            return (self.paths[role],)
        prefix = f"{role}_"
        numbered = {
            int(name.removeprefix(prefix)): path
            for name, path in self.paths.items()
            if name.startswith(prefix) and name.removeprefix(prefix).isdecimal()
        }
        return tuple(numbered[number] for number in sorted(numbered))


@dataclass(frozen=True)
class Excluded:
    """A case that was set aside, and why; `expected` where the data set itself leaves it out: nothing is to mend."""

    case_id: str
    reason: str
    hint: str = ""
    expected: bool = False


@dataclass(frozen=True)
class CaseTable(Sequence[Case]):
    """Cases in a fixed order, with unique identifiers.

    Attributes:
        cases: The cases.
        root: The folder that paths are told relative to, in everything that leaves the machine.
        name: A name for the data set, for tracking.
        excluded: Cases that the reader set aside.
        about: What the data set says of itself: `classes` (name → value, or tuple of values), `channels` (names), and
            `report`, what was counted while reading it (name → number, or name → number of each).

    Raises:
        ValueError: An identifier stands twice.
    """

    cases: tuple[Case, ...]
    root: Path
    name: str
    excluded: tuple[Excluded, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        twice = sorted(name for name, count in Counter(case.case_id for case in self.cases).items() if count > 1)
        if twice:
            raise ValueError(f"case identifiers stand more than once: {', '.join(twice[:5])}")

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, index: Any) -> Any:
        return self.cases[index]

    def __iter__(self) -> Iterator[Case]:
        return iter(self.cases)

    def part(self, split: str) -> tuple[Case, ...]:
        """The cases of one part."""
        return tuple(case for case in self.cases if case.split == split)

    def without(self, case_ids: Iterable[str]) -> CaseTable:
        """The table less some cases."""
        dropped = set(case_ids)
        return replace(self, cases=tuple(case for case in self.cases if case.case_id not in dropped))
