"""A perceptron on each token whose channels are weighed by their means (MAXIM's RDCAB).

>>> import torch
>>> from shared_attention import build
>>> build("maxim_rdcab", 16, rank=1)(torch.zeros(2, 9, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 16])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.mechanisms.mixing._maxim import EPS
from shared_attention.registry import Card, Source, register

__all__ = ["DenseChannelAttention"]


@register(
    Card(
        name="maxim_rdcab",
        title="Residual dense channel attention (MAXIM)",
        paper="Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="2*N*C**2 + N*C",
        formula="h = W₂ GELU(W₁ LN x)\ny = x + h ⊙ σ(W₄ relu(W₃ mean_N(h)))",
        source=Source("google-research/maxim", "3c82651", "Apache-2.0"),
        fixtures=("maxim_rdcab",),
        notes="The reduction is 16 in the published class and 4 in the published networks; 4 is the default here.",
        flat=True,
    )
)
class DenseChannelAttention(TokenMixer):
    """LayerNorm, two linear layers, squeeze and excitation, residual.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        reduction: How many times fewer channels the excitation has inside.
        bias: Whether linear layers have an additive bias.
    """

    def __init__(self, dim: int, *, rank: int, reduction: int = 4, bias: bool = True) -> None:
        super().__init__(dim, rank=rank)
        positive("reduction", reduction)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.feed_forward = FeedForward(dim, hidden=dim, activation="gelu_tanh", bias=bias)
        self.excite = FeedForward(dim, hidden=max(1, dim // reduction), activation="relu", bias=bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        added = blank(self.feed_forward(self.norm(x)), mask)
        mean = masked_mean(added, mask, tuple(range(1, x.ndim - 1)))  # (B, 1..., C)
        return x + added * self.excite(mean).sigmoid()  # (B, *S, C)
