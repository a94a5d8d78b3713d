"""What is learned from the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["ClipPlan"]


@dataclass(frozen=True)
class ClipPlan:
    """Classes and lengths of the training videos.

    Attributes:
        classes: Names, in the order of the logits.
        training_videos: Videos of each class in the training part.
        median_seconds: Length of the median video.
        longest_seconds: Length of the longest one.
    """

    classes: tuple[str, ...]
    training_videos: tuple[int, ...]
    median_seconds: float
    longest_seconds: float

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> ClipPlan:
        """The inverse of `describe`."""
        return cls(
            tuple(description["classes"]),
            tuple(description["training_videos"]),
            float(description["median_seconds"]),
            float(description["longest_seconds"]),
        )
