"""What is known of the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domains.video.skeletons.joints import JointSet

__all__ = ["PosePlan"]


@dataclass(frozen=True)
class PosePlan:
    """Joints of a model.

    Attributes:
        joints: The set of joints it was trained on.
        persons: Persons of the training part.
        labelled: How often each joint was labelled there.
    """

    joints: JointSet
    persons: int = 0
    labelled: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {"joints": self.joints.describe(), "persons": self.persons, "labelled": list(self.labelled)}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> PosePlan:
        """The inverse of `describe`."""
        return cls(
            JointSet.from_description(description["joints"]),
            int(description["persons"]),
            tuple(description["labelled"]),
        )
