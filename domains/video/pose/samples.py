"""From pictures to what the network takes, in training and in inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.augment import change_light, draw_crop, half_body, lower_joints
from domains.video.pose.crops import Box, Crop, whole_box
from domains.video.pose.labels import LabelledFrame, LabelledPerson
from domains.video.pose.settings import AugmentSettings, InputSettings
from domains.video.skeletons.joints import JointSet
from pipelines.encoders.statistics import IMAGENET_MEAN, IMAGENET_STD
from pipelines.errors import CaseError
from pipelines.pictures import read_picture
from pipelines.task import SampleKey

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PoseSamples", "normalise", "normalise_batch", "targets_of", "trainable"]

_MEAN, _STD = (np.array(values, np.float32) * 255 for values in (IMAGENET_MEAN, IMAGENET_STD))
_DRAW = 5


def normalise(frames: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Cuts `(H, W, 3)` → `(T, 3, H, W)` float32, with the statistics of ImageNet."""
    stacked = (np.stack(frames).astype(np.float32) - _MEAN) / _STD
    return np.ascontiguousarray(stacked.transpose(0, 3, 1, 2))


def normalise_batch(cuts: Tensor) -> Tensor:
    """Cuts of many clips `(N, T, H, W, 3)` uint8 → `(N, T, 3, H, W)` float32 on their device, as `normalise` has them.

    Channels stay the innermost axis in memory, as convolutions like them, so nothing is copied for their sake.
    """
    import torch

    mean, std = (torch.from_numpy(values).to(cuts.device) for values in (_MEAN, _STD))
    return cuts.to(torch.float32).sub_(mean).div_(std).permute(0, 1, 4, 2, 3)


def trainable(frame: LabelledFrame) -> list[LabelledPerson]:
    """Persons that something can be learned from: those with a known joint."""
    return [one for one in frame.persons if one.known.any() and not one.ignored]


def targets_of(
    person: LabelledPerson, crop: Crop, order: Sequence[int] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Shares of the input `(J, 2)` and weights `(J, 2)`: 0 for a joint that is not known, or not in the cut.

    Args:
        person: The labels.
        crop: The cut.
        order: For each joint its mirror image, where the cut is mirrored.
    """
    shares = crop.to_shares(person.points)
    known = person.known & (shares >= 0).all(-1) & (shares <= 1).all(-1)
    if order is not None:
        shares, known = shares[list(order)], known[list(order)]
    weight = np.repeat(known[:, None], 2, 1).astype(np.float32)
    return np.where(known[:, None], shares, 0).astype(np.float32), weight


class PoseSamples:
    """One sample for each person: a clip cut out around it, changed at random.

    Args:
        frames: Case id → labelled picture.
        clips: Case id → pictures of its clip.
        joints: The joints.
        given: Size, margin, where boxes come from.
        augment: How samples are changed; None leaves them as they are.
        seed: Seed of everything drawn.
    """

    def __init__(
        self,
        frames: Mapping[str, LabelledFrame],
        clips: Mapping[str, tuple[Path, ...]],
        joints: JointSet,
        given: InputSettings,
        augment: AugmentSettings | None,
        *,
        seed: int,
    ) -> None:
        self._clips, self._given, self._augment, self._seed = dict(clips), given, augment, seed
        self._persons = [(case_id, one) for case_id, frame in frames.items() for one in trainable(frame)]
        self._mirror = joints.mirror
        self._mirrored = bool(joints.flip)
        self._lower = lower_joints(joints)

    def __len__(self) -> int:
        return len(self._persons)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """`frames` `(T, 3, H, W)`, `target` and `weight` `(J, 2)`, `case_id`. Raises `CaseError`."""
        case_id, person = self._persons[key.index]
        rng = np.random.default_rng((self._seed, _DRAW, key.epoch, key.index))
        pictures = {path: read_picture(path, case_id) for path in dict.fromkeys(self._clips[case_id])}
        clip = [pictures[path] for path in self._clips[case_id]]
        sizes = {picture.shape for picture in clip}
        if len(sizes) > 1:
            raise CaseError(case_id, f"frames of its clip have {len(sizes)} sizes", hint="Set input.frames to 1.")
        crop, flipped = self._crop(person, clip[0].shape[:2], rng)
        cuts = [crop.cut(picture) for picture in clip]
        if self._augment is not None:
            cuts = change_light(cuts, self._augment.light, rng)
        target, weight = targets_of(person, crop, self._mirror if flipped else None)
        return {"frames": normalise(cuts), "target": target, "weight": weight, "case_id": case_id}

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """A batch: `frames` `(B, T, 3, H, W)`, `target` and `weight` `(B, J, 2)`, `case_id`."""
        import torch

        batch: dict[str, Any] = {
            name: torch.from_numpy(np.stack([one[name] for one in samples])) for name in ("frames", "target", "weight")
        }
        return batch | {"case_id": [one["case_id"] for one in samples]}

    def _crop(self, person: LabelledPerson, size: tuple[int, int], rng: np.random.Generator) -> tuple[Crop, bool]:
        box, margin = self._box(person, size, rng)
        if self._augment is None:
            return Crop.around(box, self._given.size, margin=margin), False
        if rng.random() < self._augment.half_body:
            half = half_body(person.points, person.known, self._lower, rng)
            box, margin = (half, self._given.margin) if half else (box, margin)
        return draw_crop(box, margin, self._given.size, self._augment, rng, mirrored=self._mirrored)

    def _box(self, person: LabelledPerson, size: tuple[int, int], rng: np.random.Generator) -> tuple[Box, float]:
        """The whole picture, the person's own box, or each in turn by chance where the network looks twice."""
        given = self._given
        if given.boxes == "labels" or (given.looks == 2 and rng.random() < 0.5):
            return person.own_box, given.margin
        return whole_box(*size), 1.0
