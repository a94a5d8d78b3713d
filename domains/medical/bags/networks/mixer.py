"""Any token mixer of the attention core among the instances, then a pool.

>>> import torch
>>> from shared_attention import build
>>> network = MixedBags(24, 2, hidden=32, mixer=lambda dim: build("full", dim, rank=1, heads=4))
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, 1, N)
(torch.Size([3, 2]), torch.Size([3, 1, 50]))
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Embedding
from shared_attention import TokenMixer
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["MixedBags"]


class MixedBags(Aggregator):
    """Instances embedded, layers of a mixer with a feed-forward part, gated attention pooling, a linear layer.

    Args:
        features: Width of an instance.
        classes: Logits.
        mixer: Makes a mixer of one grid axis for a width.
        hidden: Width of an embedded instance.
        layers: Layers of the mixer.
        attention_hidden: Width of the hidden layer of the pool.
        dropout: Probability that an embedded unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        mixer: Callable[[int], TokenMixer],
        hidden: int = 256,
        layers: int = 1,
        attention_hidden: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        self.embed = Embedding(features, (hidden,), dropout=dropout)
        self.layers = nn.ModuleList(
            [Block(mixer(hidden), FeedForward(hidden, hidden=2 * hidden)) for _ in range(layers)]
        )
        self.norm = nn.LayerNorm(hidden)
        self.pool = GatedPool(hidden, rank=1, hidden=attention_hidden)
        self.head = nn.Linear(hidden, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        for layer in self.layers:
            tokens = layer(tokens, mask=mask)
        tokens = self.norm(tokens)
        weights = self.pool.weights(tokens, mask)  # (B, 1, N)
        pooled = weights.to(tokens.dtype) @ tokens  # (B, 1, D)
        return BagOutput(self.head(pooled.squeeze(1)), weights)
