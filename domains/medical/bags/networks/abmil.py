"""Attention-based multiple-instance learning (ABMIL): one weighted mean of the instances, one linear layer.

>>> import torch
>>> network = AttentionBags(24, 2, hidden=(16,), attention_hidden=12)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, 1, N)
(torch.Size([3, 2]), torch.Size([3, 1, 50]))
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Embedding
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["AttentionBags"]


class AttentionBags(Aggregator):
    """Ilse et al., Attention-based Deep Multiple Instance Learning, ICML 2018.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of the layers that embed an instance; none for the instances as they are.
        attention_hidden: Width of the hidden layer of the attention.
        gated: Whether the attention has the sigmoid gate.
        bias: Whether the embedding has additive biases.
        dropout: Probability that an embedded unit, or a hidden unit of the attention, is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (512,),
        attention_hidden: int = 128,
        gated: bool = True,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        self.embed = Embedding(features, hidden, bias=bias, dropout=dropout)
        self.pool = GatedPool(self.embed.width, rank=1, hidden=attention_hidden, gated=gated, dropout=dropout)
        self.head = nn.Linear(self.embed.width, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        weights = self.pool.weights(tokens, mask)  # (B, 1, N)
        pooled = weights.to(tokens.dtype) @ tokens  # (B, 1, D)
        return BagOutput(self.head(pooled.squeeze(1)), weights)
