"""Channels look at channels: a map of the size of a head, whatever the number of tokens (XCA).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("xca", 32, rank=2, heads=4)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of
from shared_attention.contract import TokenMixer, blank
from shared_attention.projections import project_mixed, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["CrossCovariance"]


@register(
    Card(
        name="xca",
        title="Cross-covariance attention (XCA)",
        paper="El-Nouby et al., XCiT: Cross-Covariance Image Transformers, NeurIPS 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="4*N*C**2 + N*C*D + C**2*D",
        formula="A = softmax(τ · cos(q_c, k_d))                 (H, D, D): channels c, d as vectors over all tokens\n"
        "y = W (v Aᵀ)",
        source=Source("mindflow-institue/DAEFormer", "9460d3a", "MIT"),
        fixtures=("daeformer_channel_attn",),
        notes="Queries and keys are normalised along the tokens, so the map is one of cosines; each head has a learned "
        "temperature that multiplies it. Held against the class in DAEFormer, which repeats that of the paper.",
        flat=True,
    )
)
class CrossCovariance(TokenMixer):
    """Softmax attention among the channels of each head, by the cosine of what they hold over all tokens.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that a weight between channels is dropped in training.
    """

    def __init__(
        self, dim: int, *, rank: int, heads: int | None = None, qkv_bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.dropout = dropout
        self.temperature = nn.Parameter(torch.ones(self.heads, 1, 1))
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        q, k, v = blank(self.qkv(x), mask).flatten(1, -2).chunk(3, -1)  # (B, N, C) each
        q, k = (functional.normalize(split_heads(part, self.heads), dim=-2) for part in (q, k))  # (B, H, N, D)
        weights = ((q.transpose(-2, -1) @ k) * self.temperature).softmax(-1)  # (B, H, D, D), over channels
        weights = functional.dropout(weights, self.dropout, self.training)
        return project_mixed(v, weights, self.proj).unflatten(1, x.shape[1:-1])
