"""Training patches: preprocessed cases held in memory; each sample is a function of seed, epoch and index alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from domains.medical.segmentation.augment import IntensityChange, intensity_change
from domains.medical.segmentation.classes import Classes
from domains.medical.segmentation.cut import Cut, choose_centre, cut_patch, draw_matrix
from domains.medical.segmentation.preprocess import Preprocessing
from domains.medical.segmentation.reading import read_image, read_reference
from domains.medical.segmentation.settings import AugmentSettings, PatchSettings
from pipelines.cases import Case
from pipelines.casestore import CaseStore
from pipelines.task import SampleKey

__all__ = ["PatchData", "StoredCase", "prepare_case"]

_CENTRES = 2000
"""Voxels of a class that patches may be centred on; evenly spread over all of them."""


@dataclass(frozen=True)
class StoredCase:
    """A preprocessed case: image `(C, *P)` float32, labels `(*P)`, and voxels `(n, rank)` of each class present."""

    image: Tensor
    labels: Tensor
    centres: tuple[Tensor, ...]

    @property
    def bytes(self) -> int:
        """Memory it takes."""
        return self.image.nbytes + self.labels.nbytes + sum(voxels.nbytes for voxels in self.centres)


def prepare_case(preprocessing: Preprocessing, classes: Classes, case: Case) -> StoredCase:
    """Reads and preprocesses a training case. Raises `CaseError`."""
    scan = read_image(case, channels=preprocessing.channels)
    prepared = preprocessing.prepare(scan)
    reference = read_reference(case, scan, classes)
    labels = preprocessing.prepare_labels(reference, prepared.layout)
    centres = []
    for value in torch.unique(labels).tolist():
        if value:
            voxels = (labels == value).nonzero()
            centres.append(voxels[:: max(1, len(voxels) // _CENTRES)].to(torch.int16).contiguous())
    return StoredCase(prepared.image, labels, tuple(centres))


class PatchData:
    """Augmented patches of training cases.

    Args:
        cases: Training cases.
        store: Where they are held.
        size: Patch.
        spacing: Of the network's grid, mm, so that rotations are rotations.
        patches: How patches are drawn.
        augment: How they are changed.
        unit: Whether intensities lie between 0 and 1.
        seed: Seed of everything drawn.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        store: CaseStore[StoredCase],
        *,
        size: tuple[int, ...],
        spacing: tuple[float, ...],
        patches: PatchSettings,
        augment: AugmentSettings,
        unit: bool,
        seed: int,
    ) -> None:
        self._cases = tuple(cases)
        self._store = store
        self._size = size
        self._spacing = spacing
        self._patches = patches
        self._augment = augment
        self._unit = unit
        self._seed = seed
        self._change: IntensityChange | None = None

    def __len__(self) -> int:
        return len(self._cases) * self._patches.per_case

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """A sample: `image` `(C, *size)` float32, `label` `(*size)` int64, `case_id`."""
        case = self._cases[key.index % len(self._cases)]
        generator = np.random.default_rng([self._seed, key.epoch, key.index])
        stored = self._store[case]
        voxel = None
        if stored.centres and generator.random() < self._patches.foreground:
            voxels = stored.centres[int(generator.integers(len(stored.centres)))]
            voxel = voxels[int(generator.integers(len(voxels)))].tolist()
        start = choose_centre(generator, stored.labels.shape, self._size, voxel)
        image, labels = self._augmented(generator, stored, start)
        return {"image": image, "label": labels, "case_id": case.case_id}

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: `image` `(B, C, *size)`, `label` `(B, *size)`, `case_id` a list."""
        return {
            "image": torch.stack([sample["image"] for sample in samples]),
            "label": torch.stack([sample["label"] for sample in samples]),
            "case_id": [sample["case_id"] for sample in samples],
        }

    def __getstate__(self) -> dict[str, Any]:
        # The chain of transforms is made again in each process.
        return self.__dict__ | {"_change": None}

    def _augmented(
        self, generator: np.random.Generator, stored: StoredCase, start: tuple[int, ...]
    ) -> tuple[Tensor, Tensor]:
        settings = self._augment
        if not settings.enabled:
            return cut_patch(stored.image, stored.labels, Cut(start, self._size))
        matrix = None
        if generator.random() < settings.geometry.probability:
            matrix = draw_matrix(
                generator, self._spacing, rotation=settings.geometry.rotation, scale=settings.geometry.scale
            )
        image, labels = cut_patch(stored.image, stored.labels, Cut(start, self._size, matrix))
        if self._change is None:
            self._change = intensity_change(settings, len(self._size), unit=self._unit)
        image = self._change(image, int(generator.integers(2**31)))
        mirrored = [axis for axis in settings.mirror.axes if generator.random() < settings.mirror.probability]
        if mirrored:
            image, labels = image.flip([axis + 1 for axis in mirrored]), labels.flip(mirrored)
        return image, labels
