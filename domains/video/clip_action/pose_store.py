"""Poses of cases: read once, held for as long as they are drawn from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.augment import ClipChange
from domains.video.clip_action.clips import Footage, FrameStore
from domains.video.clip_action.poses import PoseReader, PoseTrack, names_of
from domains.video.clip_action.preparation import Preparation
from pipelines.cases import Case

__all__ = ["PoseStore"]


class PoseStore:
    """Poses of the videos of cases.

    Args:
        reader: Reads them.
        frames: Knows the videos.
        preparation: Makes clips.
    """

    def __init__(self, reader: PoseReader, frames: FrameStore, preparation: Preparation) -> None:
        self._reader, self._frames, self.preparation = reader, frames, preparation
        self._tracks: dict[str, PoseTrack] = {}
        self._views: dict[str, NDArray[np.float32]] = {}

    def track(self, case: Case, footage: Footage) -> PoseTrack:
        """Every frame's poses. Raises `CaseError`."""
        if case.case_id not in self._tracks:
            path = case.paths["skeleton"]
            self._tracks[case.case_id] = self._reader.of(case.case_id, path, names_of(case), footage.info)
        return self._tracks[case.case_id]

    def of_views(self, case: Case) -> NDArray[np.float32]:
        """float32 `(V, T, P J, 3)`, poses of the fixed clips of a video. Raises `CaseError`."""
        if case.case_id not in self._views:
            footage = self._frames[case]
            numbers = footage.shown(np.stack(self.preparation.view_numbers(case.case_id, footage.info)))
            self._views[case.case_id] = self.preparation.pose(
                self.track(case, footage), numbers, footage.size, ClipChange()
            )
        return self._views[case.case_id]
