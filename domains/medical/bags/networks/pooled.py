"""The mean, or the largest value of each channel, of all instances: what attention has to beat.

>>> import torch
>>> network = PooledBags(24, 2, hidden=(16,), pooling="max")
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, 1, N)
(torch.Size([3, 2]), torch.Size([3, 1, 50]))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Embedding
from shared_attention.contract import masked_mean

__all__ = ["PooledBags"]


class PooledBags(Aggregator):
    """Each instance embedded, then pooled without attention.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of the layers that embed an instance; none for the instances as they are.
        pooling: `mean` or `max`.
        dropout: Probability that an embedded unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (512,),
        pooling: Literal["mean", "max"] = "mean",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        if pooling not in ("mean", "max"):
            raise ValueError(f"pooling {pooling!r}; allowed are 'mean' and 'max'")
        self.pooling = pooling
        self.embed = Embedding(features, hidden, dropout=dropout)
        self.head = nn.Linear(self.embed.width, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        """The attention of `max` is the share of channels in which an instance is the largest."""
        tokens = self.embed(bags)  # (B, N, D)
        real = torch.ones_like(bags[..., 0]) if mask is None else mask.to(bags.dtype)  # (B, N)
        if self.pooling == "mean":
            pooled = masked_mean(tokens * real.unsqueeze(-1), mask, (1,)).squeeze(1)  # (B, D)
            attention = real / real.sum(1, keepdim=True)
        else:
            shown = tokens if mask is None else tokens.masked_fill(~mask.unsqueeze(-1), -torch.inf)
            pooled, winner = shown.max(1)  # (B, D)
            share = torch.full_like(winner, 1 / winner.shape[1], dtype=real.dtype)
            attention = torch.zeros_like(real).scatter_add_(1, winner, share)
        return BagOutput(self.head(pooled), attention.unsqueeze(1))
