"""Clips by case: where a sequence lies, what of it is looked at, and how it becomes a sample of fixed length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.skeleton_action.augment import (
    add_noise,
    flip,
    normalise,
    resample,
    rotate_and_scale,
    window,
)
from domains.video.skeleton_action.settings import AugmentSettings, ClipSettings, DataSettings
from domains.video.skeletons.joints import JointSet
from domains.video.skeletons.opening import find_joints, open_skeletons, read_class_names
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet
from pipelines.caseids import identifier_problem, normal_identifier
from pipelines.cases import Case, CaseTable
from pipelines.errors import CaseError, DataError
from pipelines.task import SampleKey

__all__ = ["ClipData", "Preparation", "clip_table", "held_skeletons", "select_persons"]


def held_skeletons(data: DataSettings) -> SkeletonSet:
    """The skeletons that a workflow names; an unchanged file is read once. Raises `DataError`."""
    try:
        changed = data.file.stat().st_mtime_ns
    except OSError as error:
        raise DataError(f"{data.file} cannot be read: {error.strerror or error}", hint="Check data.file.") from error
    return _held(data.file, changed, data.joints, data.classes, data.published_split)


@lru_cache(maxsize=4)
def _held(path: Path, _: int, joints: str, classes: Path | None, split: str) -> SkeletonSet:
    names = read_class_names(classes) if classes else ()
    return open_skeletons(path, find_joints(joints) if joints else None, classes=names, split=split)


def clip_table(found: SkeletonSet, path: Path) -> CaseTable:
    """A case for each sequence; its `container` is the file, its label `clip` the name there, `action` its class."""
    cases = []
    for one in found.sequences:
        case_id = normal_identifier(one.name.replace("/", "-"))
        if problem := identifier_problem(case_id):
            raise DataError(f"{path.name}: {problem}")
        labels = {"clip": one.name} | ({"action": one.label} if one.label else {})
        cases.append(Case(case_id, one.group or case_id, {"container": path}, labels, one.split))
    try:
        return CaseTable(tuple(cases), path.parent, path.stem)
    except ValueError as error:
        raise DataError(
            f"{path.name}: {error}", hint="Clips need names of their own, also where / becomes -."
        ) from error


def select_persons(sequence: SkeletonSequence, persons: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates `(persons, T, J, D)` and what was seen `(persons, T, J)`, 1 or 0: those seen most, most first.

    Persons that are not there are 0 throughout. Raises `CaseError` where nobody was seen.
    """
    amount = sequence.confidence.sum((1, 2))
    if not amount.any():
        raise CaseError(sequence.name, "no joint was seen in any frame", hint="Leave the clip out.")
    chosen = np.argsort(-amount, kind="stable")[:persons]
    coordinates, seen = sequence.coordinates[chosen], (sequence.confidence[chosen] > 0).astype(np.float32)
    missing = persons - len(chosen)
    if missing:
        coordinates = np.concatenate([coordinates, np.zeros((missing, *coordinates.shape[1:]), np.float32)])
        seen = np.concatenate([seen, np.zeros((missing, *seen.shape[1:]), np.float32)])
    return coordinates, seen


class Preparation:
    """From sequences to samples, for one set of joints.

    Args:
        joints: The joints.
        clip: What a sample is.
    """

    def __init__(self, joints: JointSet, clip: ClipSettings) -> None:
        self.joints, self.clip = joints, clip

    def normal(self, sequence: SkeletonSequence) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Normalised coordinates `(P, T, J, D)` of all frames, and what was seen. Raises `CaseError`."""
        coordinates, seen = select_persons(sequence, self.clip.persons)
        return normalise(coordinates, seen, self.joints.centre_places), seen

    def sample(self, sequence: SkeletonSequence) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The whole clip, as it is served. Raises `CaseError`."""
        return resample(*self.normal(sequence), self.clip.frames)

    def changed(
        self,
        coordinates: NDArray[np.float32],
        seen: NDArray[np.float32],
        augment: AugmentSettings,
        rng: np.random.Generator,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """A random piece of a normalised clip, changed at random."""
        start, stop = window(coordinates.shape[1], augment.shortest, rng)
        coordinates, seen = resample(coordinates, seen, self.clip.frames, start=start, stop=stop)
        if rng.random() < augment.flip:
            coordinates, seen = flip(coordinates, seen, self.joints.mirror)
        coordinates = rotate_and_scale(
            coordinates, degrees=augment.rotation, scale=augment.scale, shear=augment.shear, rng=rng
        )
        return add_noise(coordinates, augment.noise, rng), seen


class ClipData:
    """One sample for each case: a random piece of it, changed at random, or the whole clip as it is.

    Args:
        cases: The cases.
        sequences: Case id → sequence.
        numbers: Name of a class → its number.
        preparation: Makes samples.
        augment: How; None leaves clips as they are.
        seed: Seed of the draws.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        sequences: Mapping[str, SkeletonSequence],
        numbers: Mapping[str, int],
        preparation: Preparation,
        augment: AugmentSettings | None,
        *,
        seed: int,
    ) -> None:
        self._cases, self._preparation, self._augment, self._seed = tuple(cases), preparation, augment, seed
        self._labels = [numbers[str(case.labels["action"])] for case in self._cases]
        self._sequences = [sequences[case.case_id] for case in self._cases]
        self._ready: dict[int, tuple[NDArray[np.float32], NDArray[np.float32]]] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """`coordinates` `(P, T, J, D)`, `seen` `(P, T, J)`, `label`, `case_id`. Raises `CaseError`."""
        if key.index not in self._ready:
            self._ready[key.index] = self._preparation.normal(self._sequences[key.index])
        coordinates, seen = self._ready[key.index]
        if self._augment is None:
            coordinates, seen = resample(coordinates, seen, self._preparation.clip.frames)
        else:
            rng = np.random.default_rng((self._seed, key.epoch, key.index))
            coordinates, seen = self._preparation.changed(coordinates, seen, self._augment, rng)
        return {
            "coordinates": coordinates,
            "seen": seen,
            "label": self._labels[key.index],
            "case_id": self._cases[key.index].case_id,
        }

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """A batch: `coordinates` `(B, P, T, J, D)`, `seen` `(B, P, T, J)`, `label` `(B,)` int64, `case_id`."""
        import torch

        return {
            "coordinates": torch.from_numpy(np.stack([one["coordinates"] for one in samples])),
            "seen": torch.from_numpy(np.stack([one["seen"] for one in samples])),
            "label": torch.tensor([one["label"] for one in samples]),
            "case_id": [one["case_id"] for one in samples],
        }
