"""Skeletons of NTU RGB+D: the `.skeleton` text files that the Kinect v2 wrote.

    frames
    bodies                       for each frame
      id and nine more values    for each body
      joints
        x y z (metres), column and row in the depth picture and in the colour picture, turn (4 values), state
                                 for each joint; the state is 2 tracked, 1 inferred, 0 not tracked

The name says the rest: `S001C002P003R002A013` is action 13 of performer 3, seen by camera 2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.video.skeletons.joints import joint_set
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, seen_only
from pipelines.errors import DataError

__all__ = ["read_ntu"]

_NAME = re.compile(r"S\d{3}C\d{3}P(?P<performer>\d{3})R\d{3}A(?P<action>\d{3})")
_TRUST = (0.0, 0.5, 1.0)
"""Confidence of a joint that was not tracked, inferred, tracked."""
_SPACE, _PICTURE = (0, 1, 2), (5, 6)
"""Columns of a joint's line: x, y, z in metres; column and row in the colour picture."""
_COLOUR = (1080, 1920)
"""Height and width of the Kinect's colour picture."""


def read_ntu(path: Path, *, in_picture: bool = False) -> SkeletonSet:
    """The bodies of one file; those of one identifier are one person.

    Args:
        path: The file.
        in_picture: Where joints are in the colour picture, in two axes and pixels, in place of metres of space.

    Raises:
        DataError: It is not there, breaks off, or shows nobody.
    """
    joints = joint_set("ntu25")
    try:
        words = iter(path.read_text(encoding="ascii").split())
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check the path.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is no .skeleton file: it is not text") from error
    try:
        bodies, frames = _bodies(words, len(joints), _PICTURE if in_picture else _SPACE)
    except (StopIteration, ValueError) as error:
        told = str(error) or "it breaks off"
        raise DataError(f"{path.name} is no complete .skeleton file: {told}") from error
    if not bodies:
        raise DataError(f"{path.name} shows nobody", hint="NTU lists 302 such files; leave them out.")
    axes = len(_PICTURE if in_picture else _SPACE)
    points = np.zeros((len(bodies), frames, len(joints), axes + 1), np.float32)
    for person, seen in enumerate(bodies.values()):
        for frame, values in seen.items():
            points[person, frame] = values
    named = _NAME.search(path.stem)
    label, group = (f"A{named['action']}", f"P{named['performer']}") if named else ("", path.stem)
    size = _COLOUR if in_picture else None
    coordinates, confidence = seen_only(points[..., :axes], points[..., axes])
    return SkeletonSet(joints, (SkeletonSequence(path.stem, coordinates, confidence, label, group, size=size),))


def _bodies(
    words: Iterator[str], joints: int, columns: Sequence[int]
) -> tuple[dict[str, dict[int, NDArray[np.float32]]], int]:
    """Body → frame → `(J, D + 1)` coordinates of these columns and confidence; and the number of frames."""
    bodies: dict[str, dict[int, NDArray[np.float32]]] = {}
    frames = int(next(words))
    if frames < 1:
        raise ValueError(f"{frames} frames")
    for frame in range(frames):
        for _ in range(int(next(words))):
            body, *_ = [next(words) for _ in range(10)]
            count = int(next(words))
            if count != joints:
                raise ValueError(f"a body of {count} joints, allowed are {joints}")
            values = np.array([[float(next(words)) for _ in range(12)] for _ in range(count)], np.float32)
            state = values[:, 11].astype(int)
            if not np.isin(state, (0, 1, 2)).all():
                raise ValueError(f"a tracking state {state.max()}, allowed are 0, 1 and 2")
            confidence = np.array(_TRUST, np.float32)[state]
            bodies.setdefault(body, {})[frame] = np.column_stack([values[:, columns], confidence])
    return bodies, frames
