"""Training samples: pictures held in memory; each sample is a function of seed, pass and index alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from domains.reid.images import Pixels
from domains.reid.training.augment import Changes
from domains.reid.training.batches import BalancedOrder
from pipelines.cases import Case
from pipelines.casestore import CaseStore
from pipelines.task import SampleKey

__all__ = ["BalancedSamples", "PictureSamples", "Targets"]

Targets = Mapping[str, Mapping[str, int]]
"""Name of a batch entry → case id → number: `label`, `side`, and the value of each attribute."""
_DRAW = 3


class PictureSamples:
    """Changed pictures with their numbers.

    Args:
        cases: Training cases.
        store: Where their pictures are held.
        changes: How they are changed.
        targets: What each is to be.
        seed: Seed of everything drawn.
    """

    def __init__(
        self, cases: Sequence[Case], store: CaseStore[Pixels], changes: Changes, targets: Targets, *, seed: int
    ) -> None:
        self.cases = tuple(cases)
        self._store, self._changes, self._targets, self._seed = store, changes, targets, seed

    def __len__(self) -> int:
        return len(self.cases)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        case = self.cases[key.index % len(self.cases)]
        rng = np.random.default_rng((self._seed, _DRAW, key.epoch, key.index))
        image = torch.from_numpy(self._changes(self._store[case], rng))
        numbers = {name: known[case.case_id] for name, known in self._targets.items()}
        return {"image": image, "case_id": case.case_id, **numbers}

    def collate(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """`image` `(B, 3, H, W)` float32, the targets `(B,)` int64, and `case_id`."""
        batch: dict[str, Any] = {"case_id": [sample["case_id"] for sample in samples]}
        images: list[Tensor] = [sample["image"] for sample in samples]
        batch["image"] = torch.stack(images)
        for name in self._targets:
            batch[name] = torch.tensor([sample[name] for sample in samples], dtype=torch.int64)
        return batch


class BalancedSamples(PictureSamples):
    """Samples in batches of P identities with K pictures each; see `BalancedOrder`.

    Args:
        cases: Training cases.
        store: Where their pictures are held.
        changes: How they are changed.
        targets: What each is to be.
        seed: Seed of everything drawn.
        order: The order of a pass.
        batch_size: Pictures in a batch.
    """

    def __init__(
        self,
        cases: Sequence[Case],
        store: CaseStore[Pixels],
        changes: Changes,
        targets: Targets,
        *,
        seed: int,
        order: BalancedOrder,
        batch_size: int,
    ) -> None:
        super().__init__(cases, store, changes, targets, seed=seed)
        self._order, self._copies = order, order.copies(batch_size)

    def __len__(self) -> int:
        return len(self.cases) * self._copies

    def pass_length(self, batch_size: int) -> int:
        """Samples of one pass."""
        return self._order.batches(batch_size) * batch_size

    def arrange(self, rng: np.random.Generator, batch_size: int) -> list[int]:
        """The samples of one pass, batch after batch."""
        return self._order.arrange(rng, batch_size)
