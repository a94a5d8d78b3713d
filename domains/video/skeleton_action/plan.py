"""What is learned from the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domains.video.skeletons.joints import JointSet

__all__ = ["SkeletonPlan"]


@dataclass(frozen=True)
class SkeletonPlan:
    """Joints and classes of a model.

    Attributes:
        joints: The set of joints it was trained on.
        axes: Coordinates of a joint, 2 or 3.
        classes: Names, in the order of the logits.
        training_clips: Clips of each class in the training part.
    """

    joints: JointSet
    axes: int
    classes: tuple[str, ...]
    training_clips: tuple[int, ...] = ()

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "joints": self.joints.describe(),
            "axes": self.axes,
            "classes": list(self.classes),
            "training_clips": list(self.training_clips),
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> SkeletonPlan:
        """The inverse of `describe`."""
        return cls(
            JointSet.from_description(description["joints"]),
            int(description["axes"]),
            tuple(description["classes"]),
            tuple(description["training_clips"]),
        )
