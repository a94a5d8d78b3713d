"""Networks that cut or fold a bag by its length: each bag of a batch is taken alone, without its padding."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from domains.medical.bags.networks.contract import Aggregator, BagOutput

__all__ = ["OneByOne"]


class OneByOne(Aggregator):
    """A subclass writes `look_at` for one bag; outputs are stacked, attention padded with zeros."""

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        found = [self.look_at(bag if mask is None else bag[mask[row]]) for row, bag in enumerate(bags)]
        logits = torch.cat([one.logits for one in found])  # (B, classes)
        parts = {name: torch.stack([one.parts[name] for one in found]) for name in found[0].parts}
        if found[0].attention is None:
            return BagOutput(logits, None, parts)
        weights = []
        for row, one in enumerate(found):
            assert one.attention is not None
            if mask is None:
                weights.append(one.attention[0])
                continue
            spread = one.attention.new_zeros(one.attention.shape[1], bags.shape[1])
            spread[:, mask[row]] = one.attention[0]
            weights.append(spread)
        return BagOutput(logits, torch.stack(weights), parts)

    @abstractmethod
    def look_at(self, bag: Tensor) -> BagOutput:
        """One bag `(N, F)` without padding; an output for a batch of one."""
