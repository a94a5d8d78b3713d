"""Poses of the persons in a video, frame by frame, as the second modality of its clips.

    track = pose_track("a", sequence, info, settings)    # every frame of the video, whatever rate the poses had
    track.at(numbers)                                    # (T, P, J, 3): column and row from 0 to 1, confidence
    change.places(track.at(numbers), ...)                # through the same cut as the pixels

A frame, a person or a joint that was not seen has the confidence 0: it is masked, and nothing is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.settings import PoseSettings
from domains.video.decoding import VideoInfo
from domains.video.skeletons.joints import JointSet
from domains.video.skeletons.opening import find_joints, open_skeletons
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet
from pipelines.caseids import some
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError

__all__ = ["PoseReader", "PoseTrack", "joints_of", "mirror_pose", "names_of", "pose_track"]

_LATE = 0.5
"""Share of a usual step by which the time that poses tell of a frame may differ from the frame's own."""


@dataclass(frozen=True, eq=False)
class PoseTrack:
    """Where joints are in each frame of a video.

    Attributes:
        poses: float32 `(P, F, J, 3)`: column and row from 0 to 1 over the shown picture, and confidence from 0 to 1;
            all of it 0 where a joint was not seen.
    """

    poses: NDArray[np.float32]

    def at(self, numbers: NDArray[np.integer]) -> NDArray[np.float32]:
        """Poses in frames `(...)`: `(..., P, J, 3)`."""
        return np.moveaxis(self.poses[:, numbers], 0, -3)

    @property
    def seen(self) -> float:
        """Share of joints, over persons and frames, that were seen."""
        return float((self.poses[..., 2] > 0).mean())


@dataclass(frozen=True)
class PoseReader:
    """Reads the poses that belong to videos.

    Attributes:
        settings: How they are taken.
        joints: The joints of the model; None while it is not known yet, and the file says.
    """

    settings: PoseSettings
    joints: JointSet | None = None

    def open(self, path: Path) -> SkeletonSet:
        """The file. Raises `DataError` and, for other joints, `JointSetMismatch`."""
        joints = self.joints
        if joints is None and self.settings.joints:
            joints = find_joints(self.settings.joints)
        try:
            return _opened(path, path.stat().st_mtime_ns, joints)
        except OSError as error:
            raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check the path.") from error

    def of(self, case_id: str, path: Path, names: Sequence[str], info: VideoInfo) -> PoseTrack:
        """The poses of a video.

        Args:
            case_id: What errors name.
            path: The file of skeletons.
            names: What its clip may be called in a file that holds several.
            info: The video.

        Raises:
            CaseError: The file cannot be read, holds other joints, or does not belong to the video.
        """
        try:
            held = self.open(path)
        except DataError as error:
            raise CaseError(case_id, error.message, hint=error.hint) from error
        return pose_track(case_id, _named(case_id, path, held, names), info, self.settings)


def joints_of(cases: Sequence[Case], reader: PoseReader) -> JointSet:
    """The joints of the first file of skeletons that can be read. Raises `DataError` where none can."""
    problems = []
    for path in dict.fromkeys(case.paths["skeleton"] for case in cases):
        try:
            return reader.open(path).joints
        except DataError as error:
            problems.append(error)
    raise problems[0]


def names_of(case: Case) -> tuple[str, ...]:
    """What a video may be called in a file that holds the poses of several: as a table says, else by its own name."""
    told = str(case.labels.get("clip", ""))
    return (told,) if told else (case.paths["video"].stem, case.case_id)


@lru_cache(maxsize=8)
def _opened(path: Path, _: int, joints: JointSet | None) -> SkeletonSet:
    return open_skeletons(path, joints, in_picture=True)


def _named(case_id: str, path: Path, held: SkeletonSet, names: Sequence[str]) -> SkeletonSequence:
    """The clip of one of these names; the only one of a file that holds one, whatever it is called."""
    if len(held.sequences) == 1:
        return held.sequences[0]
    for name in names:
        for one in held.sequences:
            if one.name == name:
                return one
    known = some([one.name for one in held.sequences], limit=3)
    raise CaseError(
        case_id,
        f"{path.name} holds {len(held.sequences)} clips and none is called {' or '.join(map(repr, names))}: {known}",
        hint="Name the clip in the column `data.clip`, or give each video a file of its own.",
    )


def pose_track(case_id: str, sequence: SkeletonSequence, info: VideoInfo, settings: PoseSettings) -> PoseTrack:
    """Poses of every frame of a video, of the persons that are seen most.

    Raises:
        CaseError: Joints are not in pixels of a picture, or the poses are not of as many frames as the video.
    """
    axes = sequence.coordinates.shape[-1]
    if axes != 2:
        raise CaseError(
            case_id,
            f"{sequence.name} has {axes} coordinates a joint; where joints are in the picture takes 2",
            hint="Of NTU RGB+D name the .skeleton files themselves, which hold both.",
        )
    height, width = sequence.size or (info.height, info.width)
    if (height > width) != (info.height > info.width) and height != width and info.height != info.width:
        raise CaseError(
            case_id,
            f"its poses are of pictures of {height} × {width} pixels, the video shows {info.height} × {info.width}",
            hint="One of the two is turned: estimate poses on the video as it is shown.",
        )
    sure = np.where(sequence.confidence >= max(settings.lowest, 1e-9), np.minimum(sequence.confidence, 1), 0)
    chosen = np.argsort(-sure.sum((1, 2)), kind="stable")[: settings.persons]
    frames = _frames(case_id, sequence, info, settings)  # (F,), -1 where there is none
    # A pixel's coordinates are those of its middle, so that the picture begins half a pixel before the first.
    places = (sequence.coordinates[chosen][:, frames] + 0.5) / np.array([width, height], np.float32)
    seen = sure[chosen][:, frames] * (frames >= 0)[:, None]
    poses = np.zeros((settings.persons, info.frames, sequence.coordinates.shape[2], 3), np.float32)
    poses[: len(chosen)] = np.concatenate([places, seen[..., None]], -1) * (seen > 0)[..., None]
    return PoseTrack(poses)


def _frames(case_id: str, sequence: SkeletonSequence, info: VideoInfo, settings: PoseSettings) -> NDArray[np.int64]:
    """Which of the sequence's frames belongs to each frame of the video; -1 where none does."""
    count = sequence.coordinates.shape[1]
    step = float(np.median(np.diff(info.times))) if info.frames > 1 else np.inf
    if settings.align == "time":
        return _by_time(sequence, info, step)
    # A table of poses without the JSON beside it does not say how many frames there were after the last with a person.
    open_end = sequence.times is not None and sequence.size is None and count < info.frames
    if count != info.frames and not open_end:
        raise CaseError(
            case_id,
            f"its poses are of {count} frames, the video has {info.frames}",
            hint="Set pose.align=time where both show the same stretch of time.",
        )
    if sequence.times is not None:
        late = np.abs(sequence.times - info.times[:count])
        if (late[np.isfinite(late)] > _LATE * step).any():
            raise CaseError(
                case_id,
                f"its poses are of another video: frame {int(np.nanargmax(late))} was seen {np.nanmax(late):.3f} s off",
                hint="Estimate poses on this very file, or set pose.align=time.",
            )
    frames = np.full(info.frames, -1)
    frames[:count] = np.arange(count)
    return frames


def _by_time(sequence: SkeletonSequence, info: VideoInfo, step: float) -> NDArray[np.int64]:
    """The nearest frame in time: by the times that are told, else as if poses lay evenly from first to last frame."""
    count = sequence.coordinates.shape[1]
    if sequence.times is None:
        last = max(float(info.times[-1]), 1e-9)
        spread: NDArray[np.int64] = np.round(info.times / last * (count - 1)).astype(np.int64)
        return spread
    known = np.flatnonzero(np.isfinite(sequence.times))
    usual = float(np.diff(sequence.times[known]).min()) if len(known) > 1 else step
    nearest = np.abs(sequence.times[known][None] - info.times[:, None]).argmin(1)
    away = np.abs(sequence.times[known][nearest] - info.times)
    # Where nobody was seen there is no time: what lies further away than a usual step stands for nothing.
    frames: NDArray[np.int64] = np.where(away <= _LATE * max(step, usual) + 1e-6, known[nearest], -1)
    return frames


def mirror_pose(pose: NDArray[np.float32], order: Sequence[int]) -> NDArray[np.float32]:
    """Left for right: columns count from the other edge, and joints change places; what was not seen is 0.

    Args:
        pose: `(..., J, 3)`, column and row from 0 to 1, and confidence.
        order: For each joint the one it becomes.
    """
    mirrored = pose[..., list(order), :].copy()
    mirrored[..., 0] = 1 - mirrored[..., 0]
    made: NDArray[np.float32] = mirrored * (mirrored[..., 2:] > 0)
    return made
