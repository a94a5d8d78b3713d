"""Bags as training samples, and batches of bags of different sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from domains.medical.bags.batching import draw_instances, pad_bags
from domains.medical.bags.reading import BagReader, item_of
from domains.medical.bags.target import Target
from pipelines.cases import Case
from pipelines.task import SampleKey

__all__ = ["BagData", "collate_bags"]


class BagData:
    """One sample for each case: all its instances, or as many as fit, drawn anew in each epoch.

    Args:
        cases: The cases.
        reader: Reads them.
        target: Classes.
        most_instances: Instances of a sample at most; None for all.
        seed: Seed of the draws.
    """

    def __init__(
        self, cases: Sequence[Case], reader: BagReader, target: Target, *, most_instances: int | None, seed: int
    ) -> None:
        self._cases, self._reader, self._target = tuple(cases), reader, target
        self._most, self._seed = most_instances, seed

    def __len__(self) -> int:
        return len(self._cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """`bag` `(N, F)` float32, `target` `(classes,)` bool, `case_id`. Raises `CaseError`."""
        case = self._cases[key.index]
        features = self._reader.read(item_of(case)).features
        features = draw_instances(features, self._most, key=(self._seed, key.epoch, key.index))
        return {
            "bag": torch.from_numpy(features),
            "target": torch.from_numpy(self._target.of(case)),
            "case_id": case.case_id,
        }

    def collate(self, samples: Sequence[Any]) -> dict[str, Any]:
        """See `collate_bags`."""
        return collate_bags(samples, several=self._target.several)


def collate_bags(samples: Sequence[Any], *, several: bool) -> dict[str, Any]:
    """A batch: `bags` `(B, N, F)` padded with zeros, `mask` `(B, N)`, `target`, `case_id`."""
    bags, mask = pad_bags([sample["bag"] for sample in samples])
    flags = torch.stack([sample["target"] for sample in samples])  # (B, classes)
    return {
        "bags": bags,
        "mask": mask,
        "target": flags.float() if several else flags.long().argmax(1),
        "case_id": [sample["case_id"] for sample in samples],
    }
