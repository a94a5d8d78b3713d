"""What is known of pictures: persons with their joints and boxes, and the sequence that a picture is a frame of."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.crops import Box, box_around
from domains.video.skeletons.joints import JointSet

__all__ = ["LabelledFrame", "LabelledPerson", "LabelledSet", "SequenceFrame"]


@dataclass(frozen=True, eq=False)
class LabelledPerson:
    """One person, or animal, of a picture.

    Attributes:
        points: float32 `(J, 2)`, pixels; 0 where not known.
        known: bool `(J,)`, whether a joint was labelled.
        box: Left, top, width, height; None where only joints were labelled.
        area: Pixels of the person, for object keypoint similarity; 0 where not told.
        head: Size of the head in pixels, for PCKh and PoseTrack; 0 where not told.
        ignored: Whether finding it, or not, counts for nothing (a crowd).
        track: Which person of its video it is.
    """

    points: NDArray[np.float32]
    known: NDArray[np.bool_]
    box: Box | None = None
    area: float = 0.0
    head: float = 0.0
    ignored: bool = False
    track: str = ""

    @cached_property
    def own_box(self) -> Box:
        """The labelled box, or the one around the joints. Raises `ValueError` where neither is known."""
        return self.box or box_around(self.points, self.known)


@dataclass(frozen=True)
class SequenceFrame:
    """A picture of a sequence: its number there, and where it lies."""

    number: int
    path: Path


@dataclass(frozen=True, eq=False)
class LabelledFrame:
    """A picture and its persons.

    Attributes:
        name: Unique in the set; safe as a file name.
        path: The picture.
        persons: Those in it that were labelled; may be none.
        sequence: The sequence that it belongs to, a key of `LabelledSet.sequences`.
        number: Its number there.
        split: `train`, `validation`, `test` or empty.
    """

    name: str
    path: Path
    persons: tuple[LabelledPerson, ...]
    sequence: str
    number: int = 0
    split: str = ""


@dataclass(frozen=True)
class LabelledSet:
    """Pictures of one set of joints.

    Attributes:
        joints: The joints.
        frames: The labelled pictures.
        sequences: Name → its pictures in order, labelled or not.
    """

    joints: JointSet
    frames: tuple[LabelledFrame, ...]
    sequences: dict[str, tuple[SequenceFrame, ...]] = field(default_factory=dict)
