"""Cases: the table of what there is to learn from and to be judged on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

__all__ = ["Case", "CaseTable"]


@dataclass(frozen=True)
class Case:
    """One case.

    Attributes:
        case_id: Unique in the table, safe as a file name.
        group: What must not be divided between parts: a patient, an identity, a subject, a source video.
        paths: Role → absolute file, for example `image`, `label`, `mask`.
        labels: Values known for the whole case (diagnosis, scanner, site), also used to stratify.
        split: `train`, `validation`, `test`, or empty where it is still to be drawn.
    """

    case_id: str
    group: str
    paths: Mapping[str, Path]
    labels: Mapping[str, Any] = field(default_factory=dict)
    split: str = ""


@dataclass(frozen=True)
class CaseTable(Sequence[Case]):
    """Cases in a fixed order, with unique identifiers.

    Attributes:
        cases: The cases.
        root: The folder that paths are told relative to, in everything that leaves the machine.
        name: A name for the data set, for tracking.
    """

    cases: tuple[Case, ...]
    root: Path
    name: str

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
