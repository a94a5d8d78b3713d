"""Windows of queries look at larger windows that overlap (HAT's overlapping cross-attention).

>>> import torch
>>> from shared_attention import build
>>> build("hat_overlap", 32, rank=2, window=8)(torch.zeros(1, 16, 20, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 16, 20, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.grids import crop, gather_halo, merge, pad_to_multiple, partition
from shared_attention.positions import HaloTable
from shared_attention.registry import Card, Source, register

__all__ = ["HatOverlap"]


@register(
    Card(
        name="hat_overlap",
        title="Overlapping cross-attention (HAT)",
        paper="Chen et al., Activating More Pixels in Image Super-Resolution Transformer, CVPR 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*((1 + overlap)*window)**rank*C",
        formula="y_i = W Σ_j softmax_j(q_i · k_j / √D + B[j − i]) v_j\n"
        "j: tokens of a window (1 + overlap) times as large around the window of i",
        source=Source("XPixelGroup/HAT", "1638a9a", "Apache-2.0"),
        fixtures=("hat_ocab",),
        notes="As released, what lies outside the image is seen, as keys and values of zeros whose logits are the bias "
        "of their places (`border='zeros'`, the default); `hidden` leaves it out. The released index of the bias "
        "wraps around its table; the loaded weights are put into order. The published models have windows of 16.",
        small={"window": 4},
    )
)
class HatOverlap(TokenMixer):
    """Softmax attention of each window to itself and what lies around it, with a learned bias for each offset.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a window of queries along each axis.
        overlap: How much larger the window of keys is, as a part of the window; half of that on each side.
        border: Whether what lies outside the grid is seen as keys of zeros, or hidden.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        window: int | tuple[int, ...] = 7,
        overlap: float = 0.5,
        border: Literal["zeros", "hidden"] = "zeros",
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.window = per_axis("window", window, rank)
        if overlap < 0:
            raise ValueError(f"overlap {overlap} is below zero")
        self.halo = tuple(int(size * overlap) // 2 for size in self.window)
        self.border = border
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.position = HaloTable(self.window, self.halo, self.heads)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        window = tuple(min(pair) for pair in zip(grid, self.window, strict=True))
        q, kv = self.qkv(x).split([self.dim, 2 * self.dim], -1)
        q, _ = pad_to_multiple(q, window)
        padded = q.shape[1:-1]
        kv, mask = pad_to_multiple(blank(kv, mask), window, mask)  # after the projection: what is outside is zero
        around, real = gather_halo(kv, window, self.halo, mask)  # (B, G, m, 2 C), (B or 1, G, m)
        k, v = around.unflatten(-1, (2, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (B, G, H, m, D) each
        q = partition(q, window).unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (B, G, H, n, D)
        visible = real[:, :, None, None] if self.border == "hidden" else None  # (B or 1, G, 1, 1, m)
        dropout = self.dropout if self.training else 0.0
        out = attend(q, k, v, mask=visible, bias=self.position(window), dropout=dropout)
        return self.proj(crop(merge(out.transpose(2, 3).flatten(3), window, padded), grid))
