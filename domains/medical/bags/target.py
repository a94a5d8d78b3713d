"""What is learned of a bag: one class of several, or any of several labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.bags.settings import TargetSettings
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError

__all__ = ["Target"]


@dataclass(frozen=True)
class Target:
    """Classes of bags.

    Attributes:
        names: Classes in the order of the logits.
        several: Whether a bag can have several of them (one column of 0 and 1 each).
        column: Column of the class; empty where there are several.
        values: What the column says for each class, as text.
    """

    names: tuple[str, ...]
    several: bool = False
    column: str = ""
    values: tuple[str, ...] = ()

    @classmethod
    def find(cls, settings: TargetSettings, cases: Sequence[Case]) -> Target:
        """The classes as set, or as the cases have them.

        Raises:
            DataError: A column is missing, or the cases are all of one class.
        """
        columns = (settings.label,) if isinstance(settings.label, str) else settings.label
        known = list(dict.fromkeys(name for case in cases for name in case.labels))
        missing = [name for name in columns if name not in known]
        if missing:
            raise DataError(
                f"the cases have no label {', '.join(map(repr, missing))}; they have {', '.join(known) or 'none'}",
                hint="Name the column of the class: target.label=COLUMN.",
            )
        if not isinstance(settings.label, str):
            return cls(settings.label, several=True)
        column = settings.label
        if settings.classes:
            return cls(tuple(settings.classes), False, column, tuple(map(str, settings.classes.values())))
        found = {case.labels.get(column) for case in cases} - {None}
        ordered = [str(value) for value in sorted(found, key=lambda value: (isinstance(value, str), value))]
        if len(ordered) < 2:
            raise DataError(f"label {column!r} has one value, {', '.join(ordered)}: there is nothing to tell apart")
        if len(ordered) > 100:
            raise DataError(
                f"label {column!r} has {len(ordered)} different values, too many for classes",
                hint="Name the column of the class (target.label) and its classes (target.classes).",
            )
        return cls(tuple(ordered), False, column, tuple(ordered))

    def of(self, case: Case) -> NDArray[np.bool_]:
        """Bool `(classes,)`: which of them a case is.

        Raises:
            CaseError: It has no label, or one that is no class.
        """
        if self.several:
            return np.array([self._flag(case, name) for name in self.names])
        value = case.labels.get(self.column)
        if value is None or str(value) not in self.values:
            raise CaseError(
                case.case_id,
                f"its {self.column} is {value!r}" if value is not None else f"no {self.column}",
                hint=f"Classes are the values {', '.join(self.values)}; name them under target.classes.",
            )
        return np.array([str(value) == one for one in self.values])

    def told(self, flags: NDArray[np.bool_]) -> str:
        """Classes as text, joined by `;`."""
        return ";".join(name for name, flag in zip(self.names, flags, strict=True) if flag)

    def decide(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
        """Bool `(..., classes)`: the most probable class, or every label that is more likely than not."""
        if self.several:
            return probabilities > 0.5
        highest = np.asarray(probabilities.argmax(-1))
        return np.asarray(np.arange(probabilities.shape[-1]) == highest[..., None])

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "names": list(self.names),
            "several": self.several,
            "column": self.column,
            "values": list(self.values),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Target:
        """The inverse of `describe`."""
        told = {key: description[key] for key in ("several", "column")}
        return cls(tuple(description["names"]), values=tuple(description["values"]), **told)

    def _flag(self, case: Case, name: str) -> bool:
        value = case.labels.get(name)
        if value not in (0, 1, "0", "1"):
            raise CaseError(case.case_id, f"its {name} is {value!r}; allowed are 0 and 1")
        return str(value) == "1"
