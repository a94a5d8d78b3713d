"""From footage to what the network takes: frames of a clip, and what the second stream needs of the same frames.

Motion needs the frames a moment later, a pose the joints of persons in the very same frames.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.augment import ClipChange
from domains.video.clip_action.clips import Footage, Indices, later_frames, view_frames
from domains.video.clip_action.poses import PoseTrack, mirror_pose
from domains.video.clip_action.settings import ClipSettings, InputSettings
from domains.video.decoding import VideoInfo
from pipelines.errors import CaseError, DataError

__all__ = ["Preparation", "Shot"]


@dataclass(frozen=True, eq=False)
class Shot:
    """Clips, ready for the network.

    Attributes:
        frames: uint8 `(V, T, H, W, 3)`.
        partners: The same, a moment later; None where no stream needs them.
        times: Seconds of each frame `(V, T)`.
        pose: float32 `(V, T, P J, 3)`, joints of all persons over the frames; None where no stream needs them.
    """

    frames: NDArray[np.uint8]
    partners: NDArray[np.uint8] | None
    times: NDArray[np.float64]
    pose: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Preparation:
    """How clips are made.

    Attributes:
        given: Size and fit.
        clip: Which frames.
        motion: Whether frames a moment later are needed.
        mirror: For each joint of a pose the one that it becomes in a mirror.
    """

    given: InputSettings
    clip: ClipSettings
    motion: bool
    mirror: tuple[int, ...] = ()

    def views(self, footage: Footage, track: PoseTrack | None = None) -> Shot:
        """The fixed clips of a video. Raises `CaseError`."""
        return self.shot(footage, self.view_numbers(footage.case_id, footage.info), ClipChange(), track)

    def view_numbers(self, case_id: str, info: VideoInfo) -> list[Indices]:
        """Numbers of the frames of each fixed clip. Raises `CaseError` where the video is too short for them."""
        try:
            return view_frames(info, self.clip)
        except DataError as error:
            raise CaseError(case_id, error.message, hint=error.hint) from error

    def shot(self, footage: Footage, chosen: list[Indices], change: ClipChange, track: PoseTrack | None = None) -> Shot:
        """Clips of some frames, all changed alike, their poses too; each frame is decoded once. Raises `CaseError`."""
        numbers = np.stack(chosen)  # (V, T)
        asked = numbers.ravel()
        if self.motion:
            later = later_frames(footage.info.times, asked, self.clip.motion_gap)
            asked = np.concatenate([asked, later])
        images = change(footage.frames(asked), self.given.size)
        count, shape = numbers.size, (*numbers.shape, *images.shape[1:])
        partners = images[count:].reshape(shape) if self.motion else None
        pose = None if track is None else self.pose(track, footage.shown(numbers), footage.size, change)
        return Shot(images[:count].reshape(shape), partners, footage.info.times[numbers], pose)

    def pose(
        self, track: PoseTrack, numbers: Indices, shape: tuple[int, int], change: ClipChange
    ) -> NDArray[np.float32]:
        """Joints of all persons, one person after another, in the frames of clips.

        Args:
            track: Poses of the video.
            numbers: Frames `(V, T)`.
            shape: Height and width of frames before they are cut.
            change: What is done to them.

        Returns:
            float32 `(V, T, P J, 3)`: column and row from 0 to 1 over the network's input, and confidence.
        """
        moved = change.places(track.at(numbers), shape, self.given.size, self.mirror)
        return moved.reshape(*numbers.shape, -1, 3)

    def mirrored(self, pose: NDArray[np.float32]) -> NDArray[np.float32]:
        """Poses `(..., P J, 3)` as the mirrored clips show them."""
        persons = pose.reshape(*pose.shape[:-2], -1, len(self.mirror), 3)
        return mirror_pose(persons, self.mirror).reshape(pose.shape)
