"""One head of attention on a part of the channels, then a projection of all of them (SHViT).

>>> import torch
>>> from shared_attention import build
>>> build("single_head", 64, rank=2, partial=16)(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.norms import BatchNorm, GroupNorm
from shared_attention.registry import Card, Source, register

__all__ = ["SingleHead"]


@register(
    Card(
        name="single_head",
        title="Single-head self-attention (SHViT)",
        paper="Yun and Ro, SHViT: Single-Head Vision Transformer with Memory Efficient Macro Design, CVPR 2024",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="1.05*N*C**2 + N**2*(key_dim + 0.21*C)",
        formula="a, r = first `partial` channels of x, and the rest;  q, k, v = BN(W GN(a))\n"
        "y = BN(W relu(softmax(q kᵀ / √key_dim) v ‖ r))",
        source=Source("ysj9909/SHViT", "6a729cc", "MIT"),
        fixtures=("shvit_shsa", "shvit_block"),
        notes="The channels that do not attend are neither normalised nor changed before the projection, which is of "
        "all channels. The authors' last normalisation starts at zero, for a residual around it; ours starts at one. "
        "In training, the batch normalisations see the real tokens of the batch.",
        flat=True,
        small={"key_dim": 4},
    )
)
class SingleHead(TokenMixer):
    """Attention of a single head on the first channels; the rest passes by and joins before the projection.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        partial: Channels that attend; None for 3 of 14, as the authors choose.
        key_dim: Channels of queries and keys.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self, dim: int, *, rank: int, partial: int | None = None, key_dim: int = 16, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, rank=rank)
        partial = max(1, round(dim * 3 / 14)) if partial is None else partial
        if not 1 <= partial <= dim:
            raise ValueError(f"partial {partial} is not between 1 and the {dim} channels")
        if key_dim < 1:
            raise ValueError(f"key_dim {key_dim} is not above zero")
        self.partial, self.key_dim, self.dropout = partial, key_dim, dropout
        self.norm = GroupNorm(partial)
        self.qkv = nn.Linear(partial, 2 * key_dim + partial, bias=False)
        self.qkv_norm = BatchNorm(2 * key_dim + partial)
        self.proj = nn.Linear(dim, dim, bias=False)
        self.proj_norm = BatchNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        attending, passing = x.split((self.partial, self.dim - self.partial), -1)
        qkv = self.qkv_norm(self.qkv(blank(self.norm(attending, mask), mask)), mask).flatten(1, -2)[:, None]
        q, k, v = qkv.split((self.key_dim, self.key_dim, self.partial), -1)  # (B, 1, N, D)
        visible = None if mask is None else mask.flatten(1)[:, None, None]  # (B, 1, 1, N)
        out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)
        out = torch.cat([out[:, 0].reshape(attending.shape), passing], -1).relu()  # (B, *S, C)
        return self.proj_norm(blank(self.proj(out), mask), mask)
