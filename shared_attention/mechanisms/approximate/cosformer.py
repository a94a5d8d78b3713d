"""Linear attention in which near tokens count more than far ones, by the cosine of their distance (cosFormer).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("cosformer", 32, rank=1, heads=4)
>>> mixer(torch.zeros(2, 30, 32)).shape  # (B, *S, C)
torch.Size([2, 30, 32])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of
from shared_attention.contract import TokenMixer
from shared_attention.projections import join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["CosFormer"]


@register(
    Card(
        name="cosformer",
        title="cosFormer",
        paper="Qin et al., cosFormer: Rethinking Softmax in Attention, ICLR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self", "cross"),
        cost="4*N*C**2 + 4*N*C*D",
        formula="w_ij = relu(q_i) · relu(k_j) · cos(π/2 · (i − j) / N)\ny_i = W Σ_j w_ij v_j / Σ_j w_ij",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_cosformer",),
        notes="Weights are relu(q) · relu(k) · cos(π/2 · (i - j) / m) with m the longer of the two lines of tokens, "
        "divided by their sum (at least 1e-6); a grid is read in row-major order. CAB's class does not look at its "
        "padding mask, ours leaves padded tokens out; places are those of the grid, padding included.",
        flat=True,
    )
)
class CosFormer(TokenMixer):
    """Attention with rectified queries and keys and weights that fall with the distance along the row-major order.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        context_dim: Channels of the context; None for as many as the tokens have.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        context_dim: int | None = None,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank, context_dim=context_dim)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(self.context_dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        seen, seen_mask = (x, mask) if context is None else (context, context_mask)
        q = split_heads(self.q(x).relu(), self.heads)  # (B, H, N, D)
        k, v = (split_heads(part, self.heads) for part in self.kv(seen).chunk(2, -1))  # (B, H, M, D)
        k = k.relu()
        if seen_mask is not None:
            k = k.masked_fill(~seen_mask.flatten(1)[:, None, :, None], 0.0)
        longest = max(q.shape[-2], k.shape[-2])
        q, k = _placed(q, longest), _placed(k, longest)  # (B, H, ., 2D)
        total = (q * k.sum(-2, keepdim=True)).sum(-1, keepdim=True).clamp(min=1e-6)  # (B, H, N, 1)
        return self.proj(join_heads(q @ (k.transpose(-2, -1) @ v) / total, x.shape[1:-1]))


def _placed(x: Tensor, longest: int) -> Tensor:
    """`(B, H, N, D)` times sine and cosine of its place `(B, H, N, 2D)`, whose products are cosines of differences."""
    places = torch.arange(1, x.shape[-2] + 1, device=x.device, dtype=torch.promote_types(x.dtype, torch.float32))
    angle = (places * (math.pi / 2) / longest).unsqueeze(-1)  # (N, 1)
    return torch.cat([x * angle.sin().to(x.dtype), x * angle.cos().to(x.dtype)], -1)
