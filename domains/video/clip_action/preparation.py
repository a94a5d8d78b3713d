"""From footage to what the network takes: frames of a clip, and the frames a moment later for the motion stream."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.augment import ClipChange
from domains.video.clip_action.clips import Footage, Indices, later_frames, view_frames
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
    """

    frames: NDArray[np.uint8]
    partners: NDArray[np.uint8] | None
    times: NDArray[np.float64]


@dataclass(frozen=True)
class Preparation:
    """How clips are made.

    Attributes:
        given: Size and fit.
        clip: Which frames.
        motion: Whether frames a moment later are needed.
    """

    given: InputSettings
    clip: ClipSettings
    motion: bool

    def views(self, footage: Footage) -> Shot:
        """The fixed clips of a video. Raises `CaseError`."""
        return self.shot(footage, self.view_numbers(footage.case_id, footage.info), ClipChange())

    def view_numbers(self, case_id: str, info: VideoInfo) -> list[Indices]:
        """Numbers of the frames of each fixed clip. Raises `CaseError` where the video is too short for them."""
        try:
            return view_frames(info, self.clip)
        except DataError as error:
            raise CaseError(case_id, error.message, hint=error.hint) from error

    def shot(self, footage: Footage, chosen: list[Indices], change: ClipChange) -> Shot:
        """Clips of some frames, all changed alike; each frame is decoded once. Raises `CaseError`."""
        numbers = np.stack(chosen)  # (V, T)
        asked = numbers.ravel()
        if self.motion:
            later = later_frames(footage.info.times, asked, self.clip.motion_gap)
            asked = np.concatenate([asked, later])
        images = change(footage.frames(asked), self.given.size)
        count, shape = numbers.size, (*numbers.shape, *images.shape[1:])
        partners = images[count:].reshape(shape) if self.motion else None
        return Shot(images[:count].reshape(shape), partners, footage.info.times[numbers])
