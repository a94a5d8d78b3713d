"""Patients as training samples: features, interval, time, event, and a bag where there is one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from domains.medical.bags.batching import draw_instances, pad_bags
from pipelines.task import SampleKey

__all__ = ["PatientSamples"]

_BAG_STREAM = 11


@dataclass(frozen=True)
class PatientSamples:
    """Training samples, one for each patient.

    Attributes:
        case_ids: `N` identifiers.
        features: `(N, F)` float32 as measured; None for slides alone.
        intervals: `(N,)` int64.
        time: `(N,)`.
        event: `(N,)`.
        read_bag: Gives the bag `(M, C)` of a patient by its number; None for genomics alone.
        limit: Instances drawn from a bag; None for all.
        seed: The run's seed.
    """

    case_ids: tuple[str, ...]
    features: NDArray[np.float32] | None
    intervals: NDArray[np.int64]
    time: NDArray[np.float64]
    event: NDArray[np.int64]
    read_bag: Callable[[int], NDArray[np.float32]] | None
    limit: int | None
    seed: int

    def __len__(self) -> int:
        return len(self.case_ids)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """One patient. Raises `CaseError` where its bag cannot be read."""
        at = key.index
        sample: dict[str, Any] = {
            "case_id": self.case_ids[at],
            "interval": torch.tensor(self.intervals[at]),
            "time": torch.tensor(self.time[at], dtype=torch.float32),
            "event": torch.tensor(self.event[at], dtype=torch.float32),
        }
        if self.features is not None:
            sample["genomics"] = torch.from_numpy(self.features[at])
        if self.read_bag is not None:
            drawn_by = (self.seed, _BAG_STREAM, key.epoch, at)
            sample["bag"] = torch.from_numpy(draw_instances(self.read_bag(at), self.limit, key=drawn_by))
        return sample

    def collate(self, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """A batch: `genomics` `(B, F)`, `bags` `(B, N, C)` with `mask` `(B, N)`, `interval`, `time`, `event` `(B,)`."""
        batch: dict[str, Any] = {"case_id": [sample["case_id"] for sample in samples]}
        for name in ("interval", "time", "event", "genomics"):
            if name in samples[0]:
                batch[name] = torch.stack([sample[name] for sample in samples])
        if "bag" in samples[0]:
            batch["bags"], batch["mask"] = pad_bags([sample["bag"] for sample in samples])
        return batch
