"""Classes: their names, and the values that stand for them in label files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError

__all__ = ["Classes"]


@dataclass(frozen=True)
class Classes:
    """Classes in order; the first has index 1, and background is 0.

    Attributes:
        values: Class name → the values that mean it in label files.
    """

    values: Mapping[str, tuple[int, ...]]

    @classmethod
    def from_settings(cls, settings: Mapping[str, int | tuple[int, ...]]) -> Classes:
        """From the `classes` section of a workflow, or from what a data set says."""
        return cls({name: (value,) if isinstance(value, int) else tuple(value) for name, value in settings.items()})

    @property
    def names(self) -> tuple[str, ...]:
        """Names without background."""
        return tuple(self.values)

    @property
    def count(self) -> int:
        """Number of classes with background."""
        return len(self.values) + 1

    def index(self, case_id: str, labels: NDArray[Any]) -> NDArray[Any]:
        """Class indices of label values, same shape.

        Raises:
            CaseError: A value means no class.
        """
        present = np.unique(labels)
        known = {0: 0} | {value: index for index, group in enumerate(self.values.values(), 1) for value in group}
        strangers = [int(value) for value in present if int(value) not in known]
        if strangers:
            meanings = ", ".join(f"{name} {'/'.join(map(str, group))}" for name, group in self.values.items())
            shown = ", ".join(map(str, strangers[:8])) + (", …" if len(strangers) > 8 else "")
            raise CaseError(
                case_id,
                f"label values outside the classes: {shown} (classes: background 0, {meanings})",
                hint="Correct the label file, or name these values under `classes`; several may mean one class.",
            )
        kind = np.uint8 if self.count <= 256 else np.uint16
        places = np.searchsorted(present, labels)
        return np.array([known[int(value)] for value in present], dtype=kind)[places]
