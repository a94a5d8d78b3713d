"""Skeletons in the table that a pose model leaves of a video: `ITEM.parquet`, and `ITEM.json` beside it.

    frame, person, track, seconds, …, JOINT_x, JOINT_y, JOINT_score       a row for each person of each frame

A frame in which nobody was found has no row. The JSON says how many frames there were and how large a picture was;
without it, the last frame with a row is taken for the last one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from domains.video.skeletons.joints import JointSet, known_joints, require_same
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, known_size, seen_only
from pipelines.errors import DataError

__all__ = ["read_pose_table"]

_PARTS = ("x", "y", "score")


def read_pose_table(path: Path, joints: JointSet | None = None) -> SkeletonSet:
    """The persons of one video; a track is a person.

    Args:
        path: The table.
        joints: Which joints it must hold; left out, its columns say so.

    Raises:
        JointSetMismatch: It holds other joints.
        DataError: It is no such table, shows nobody, or persons of a frame are not told apart.
    """
    columns = _columns(path)
    named = tuple(name.removesuffix("_x") for name in columns if name.endswith("_x"))
    wanted = [f"{name}_{part}" for name in named for part in _PARTS]
    if len(named) < 2 or not {"frame", "person", "track", "seconds", *wanted} <= set(columns):
        raise DataError(
            f"{path.name} is no table of joints: it lacks frame, person, track, seconds or JOINT_x, _y and _score",
            hint="`pulvinar predict` of a pose model writes such a table of a video.",
        )
    own = known_joints(named, path.stem)
    if joints is not None:
        require_same(joints, own, path.name)
    told = _read(path, ["frame", "person", "track", "seconds", *wanted])
    frame = told["frame"].astype(np.int64)
    if not len(frame):
        raise DataError(f"{path.name} shows nobody", hint="Leave the video out, or find its persons again.")
    frames, size = _beside(path, int(frame.max()) + 1)
    person = _persons(path, frame, told)
    values = np.stack([told[name].astype(np.float32) for name in wanted], -1).reshape(len(frame), len(named), 3)
    points = np.zeros((int(person.max()) + 1, frames, len(named), 3), np.float32)
    points[person, frame] = values
    times = np.full(frames, np.nan)
    times[frame] = told["seconds"]
    seen = seen_only(points[..., :2], points[..., 2])
    return SkeletonSet(joints or own, (SkeletonSequence(path.stem, *seen, size=size, times=times),))


def _columns(path: Path) -> list[str]:
    import pyarrow
    import pyarrow.parquet

    try:
        names: list[str] = pyarrow.parquet.read_schema(path).names
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}", hint="Check the path.") from error
    return names


def _read(path: Path, columns: list[str]) -> dict[str, Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path, columns=columns)
        return {name: table[name].to_numpy() for name in columns}
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}", hint="Write it again.") from error


def _persons(path: Path, frame: Any, told: dict[str, Any]) -> Any:
    """Number of the person of each row: by track; without tracks there may be one in each frame."""
    track = np.array([str(one or "") for one in told["track"]])
    named, person = np.unique(track, return_inverse=True)
    pairs, counts = np.unique(np.stack([person, frame]), axis=1, return_counts=True)
    if (counts > 1).any():
        which, where = pairs[:, counts.argmax()]
        if named[which]:
            raise DataError(f"{path.name}: track {named[which]} stands twice in frame {where}")
        raise DataError(
            f"{path.name}: frame {where} shows {counts.max()} persons without a track",
            hint="Persons of a video must be told apart: write their `track` into NAME.boxes.json and predict again.",
        )
    return person


def _beside(path: Path, least: int) -> tuple[int, tuple[int, int] | None]:
    """Frames of the video, and height and width of its pictures, from the JSON beside the table where it is there."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        return least, None
    try:
        told = json.loads(beside.read_text(encoding="utf-8"))
        frames, (height, width) = int(told["frames"]), told["size"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{beside.name} beside {path.name} is not what a pose model leaves: {error!r}") from error
    if frames < least:
        raise DataError(f"{beside.name} tells of {frames} frames, but {path.name} of frame {least - 1}")
    return frames, known_size(height, width)
