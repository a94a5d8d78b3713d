"""Training samples: clips drawn from videos and changed, or features of them that a frozen encoder made once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from domains.video.clip_action.augment import ClipChange, draw_change
from domains.video.clip_action.clips import FrameStore, clip_frames
from domains.video.clip_action.features import FeatureStore
from domains.video.clip_action.pose_store import PoseStore
from domains.video.clip_action.preparation import Preparation
from domains.video.clip_action.settings import AugmentSettings
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError
from pipelines.task import SampleKey

__all__ = ["ClipData", "FeatureData"]


class ClipData:
    """One clip of each video, drawn and changed anew in each pass.

    Args:
        cases: The cases.
        store: Their frames.
        numbers: Name of a class → its number.
        preparation: Makes samples.
        augment: How clips are changed; None draws them and leaves them as they are.
        seed: Seed of the draws.
        poses: Their poses, where the network looks at them.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        store: FrameStore,
        numbers: Mapping[str, int],
        preparation: Preparation,
        augment: AugmentSettings | None,
        *,
        seed: int,
        poses: PoseStore | None = None,
    ) -> None:
        self._cases, self._store, self._preparation = tuple(cases), store, preparation
        self._augment, self._seed, self._poses = augment, seed, poses
        self._labels = [numbers[str(case.labels["action"])] for case in self._cases]

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """`frames` and `partners` uint8 `(T, H, W, 3)`, `pose`, `label`, `case_id`. Raises `CaseError`."""
        case = self._cases[key.index]
        footage = self._store[case]
        rng = np.random.default_rng((self._seed, key.epoch, key.index))
        try:
            chosen = clip_frames(footage.info, self._preparation.clip, rng=rng)
        except DataError as error:
            raise CaseError(case.case_id, error.message, hint=error.hint) from error
        change = ClipChange() if self._augment is None else draw_change(self._augment, rng)
        track = None if self._poses is None else self._poses.track(case, footage)
        shot = self._preparation.shot(footage, [chosen], change, track)
        sample: dict[str, Any] = {
            "frames": torch.from_numpy(shot.frames[0]),
            "label": self._labels[key.index],
            "case_id": case.case_id,
        }
        if shot.partners is not None:
            sample["partners"] = torch.from_numpy(shot.partners[0])
        if shot.pose is not None:
            sample["pose"] = torch.from_numpy(shot.pose[0])
        return sample

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """A batch: `frames`, `partners` uint8 `(B, T, H, W, 3)`, `pose` `(B, T, J, 3)`, `label` int64, `case_id`."""
        return _together(samples)


class FeatureData:
    """Features of one clip of each video: of one of its views, or of its mirror image.

    Where clips are spread over the whole video, each frame is drawn from the views by itself, so that a video gives
    many clips. Zoom and colour are left out: features were made before.

    Args:
        cases: The cases.
        features: Makes features, and holds them.
        numbers: Name of a class → its number.
        flip: Share of clips that are mirrored.
        mix_views: Whether each frame is drawn by itself.
        seed: Seed of the draws.
        poses: Their poses, where the network looks at them: those of the frames that are drawn, mirrored with them.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        features: FeatureStore,
        numbers: Mapping[str, int],
        *,
        flip: float,
        mix_views: bool,
        seed: int,
        poses: PoseStore | None = None,
    ) -> None:
        self._cases, self._features, self._flip, self._mix, self._seed = tuple(cases), features, flip, mix_views, seed
        self._poses = poses
        self._labels = [numbers[str(case.labels["action"])] for case in self._cases]

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """`features` float32 `(S, T, h, w, C)`, `pose`, `label`, `case_id`. Raises `CaseError`."""
        case = self._cases[key.index]
        held = self._features.of(case.case_id, case.paths["video"])  # (2, V, S, T, h, w, C)
        rng = np.random.default_rng((self._seed, key.epoch, key.index))
        mirrored = bool(rng.random() < self._flip)
        seen = held[int(mirrored)]  # (V, S, T, h, w, C)
        count, frames = seen.shape[0], seen.shape[2]
        # Of each frame of the clip the view that it is taken from.
        places = rng.integers(0, count, frames) if self._mix else np.full(frames, rng.integers(0, count))
        chosen = seen[torch.from_numpy(places), :, torch.arange(frames)].transpose(0, 1)  # (S, T, h, w, C)
        sample = {"features": chosen.float(), "label": self._labels[key.index], "case_id": case.case_id}
        if self._poses is not None:
            pose = self._poses.of_views(case)[places, np.arange(frames)]  # (T, P J, 3)
            sample["pose"] = torch.from_numpy(self._poses.preparation.mirrored(pose) if mirrored else pose)
        return sample

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """A batch: `features` `(B, S, T, h, w, C)`, `pose` `(B, T, J, 3)`, `label` `(B,)` int64, `case_id`."""
        return _together(samples)


def _together(samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    batch: dict[str, Any] = {"case_id": [one["case_id"] for one in samples]}
    batch["label"] = torch.tensor([one["label"] for one in samples], dtype=torch.int64)
    for name, value in samples[0].items():
        if isinstance(value, Tensor):
            batch[name] = torch.stack([one[name] for one in samples])
    return batch
