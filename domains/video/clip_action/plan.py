"""What is learned from the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domains.video.skeletons.joints import JointSet

__all__ = ["ClipPlan"]


@dataclass(frozen=True)
class ClipPlan:
    """Classes and lengths of the training videos.

    Attributes:
        classes: Names, in the order of the logits.
        training_videos: Videos of each class in the training part.
        median_seconds: Length of the median video.
        longest_seconds: Length of the longest one.
        joints: Joints of the poses, where these are the second modality.
    """

    classes: tuple[str, ...]
    training_videos: tuple[int, ...]
    median_seconds: float
    longest_seconds: float
    joints: JointSet | None = None

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        plain = {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}
        return plain | {"joints": None if self.joints is None else self.joints.describe()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ClipPlan:
        """The inverse of `describe`."""
        return cls(
            tuple(description["classes"]),
            tuple(description["training_videos"]),
            float(description["median_seconds"]),
            float(description["longest_seconds"]),
            JointSet.from_description(joints) if (joints := description.get("joints")) else None,
        )
