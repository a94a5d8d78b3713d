"""Blocks of queries look at their own block and a halo around it (HaloNet).

>>> import torch
>>> from shared_attention import build
>>> build("halo", 32, rank=2, block=4, halo=2)(torch.zeros(1, 9, 6, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 9, 6, 32])
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend, backend, is_recording
from shared_attention.contract import TokenMixer, blank
from shared_attention.grids import crop, gather_halo, group_grid, merge, pad_to_multiple, partition
from shared_attention.parts import in_parts
from shared_attention.positions import AxialLogits
from shared_attention.registry import Card, Source, register

__all__ = ["Halo", "HaloAttention"]


class HaloAttention(nn.Module):
    """Attention of blocks to their halos, to any number of channels, and to fewer tokens.

    Args:
        dim: Channels in.
        out: Channels out, the values of all heads; there is no projection after them.
        block: Tokens of a block along each axis.
        halo: How many tokens further a block looks along each axis.
        heads: Number of heads.
        head_dim: Channels of a query of one head.
        stride: Only every so many tokens along each axis are queries; a divisor of the block.
        qkv_bias: Whether queries, keys and values have an additive bias.
        scale_positions: Whether the part of the logits that tells places is scaled like the rest.
        border: Whether what lies outside the grid is seen as keys of zeros, or hidden.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        block: tuple[int, ...],
        halo: tuple[int, ...],
        heads: int,
        head_dim: int,
        stride: int = 1,
        qkv_bias: bool = False,
        scale_positions: bool = False,
        border: Literal["zeros", "hidden"] = "zeros",
    ) -> None:
        super().__init__()
        self.block, self.halo, self.stride, self.border = block, halo, stride, border
        self.heads, self.head_dim, self.value_dim = heads, head_dim, out // heads
        self.scale_positions = scale_positions
        self.q = nn.Linear(dim, heads * head_dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, heads * head_dim + out, bias=qkv_bias)
        wide = [size + 2 * around for size, around in zip(block, halo, strict=True)]
        self.position = AxialLogits([size // stride for size in block], wide, head_dim=head_dim)

    def forward(self, x: Tensor, mask: Tensor | None = None, dropout: float = 0.0) -> Tensor:
        """`(B, *S, C)` with padded tokens zero to `(B, *S', E)`, S' the grid of queries."""
        grid = x.shape[1:-1]
        block = self.block if self.stride > 1 else tuple(min(pair) for pair in zip(grid, self.block, strict=True))
        wide = [size + 2 * around for size, around in zip(block, self.halo, strict=True)]
        x, mask = pad_to_multiple(x, block, mask)
        taken = x[(slice(None), *(slice(None, None, self.stride) for _ in grid))]
        small = [size // self.stride for size in block]
        q = partition(self.q(taken), small).unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (B, G, H, n, D)
        around, real = gather_halo(blank(self.kv(x), mask), block, self.halo, mask)  # (B, G, m, H (D + E / H))
        k, v = (
            around.unflatten(-1, (self.heads, -1)).transpose(2, 3).split([self.head_dim, self.value_dim], -1)
        )  # (B, G, H, m, D) and (B, G, H, m, E / H)
        scale = self.head_dim**-0.5
        visible = real[:, :, None, None] if self.border == "hidden" else None  # (B or 1, G, 1, 1, m)

        def run(q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
            bias = self.position(q * scale if self.scale_positions else q, small, wide)  # (B, G, H, n, m)
            return attend(q, k, v, mask=visible, bias=bias, scale=scale, dropout=dropout)

        whole = is_recording() or backend() != "fused"  # maps are of all windows; what is run again must run the same
        weights = 0 if whole else prod(q.shape[:-1]) * k.shape[-2]
        out = in_parts(run, q, k, v, visible, weights=weights)  # (B, G, H, n, E / H)
        sizes = [count * size for count, size in zip(group_grid(x.shape[1:-1], block), small, strict=True)]
        out = merge(out.transpose(2, 3).flatten(3), small, sizes)
        return crop(out, [-(-size // self.stride) for size in grid])  # (B, *S', E)


@register(
    Card(
        name="halo",
        title="Blocked local attention with halos (HaloNet)",
        paper="Vaswani et al., Scaling Local Self-Attention for Parameter Efficient Visual Backbones, CVPR 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*C**2 + 2*N*(block + 2*halo)**rank*C",
        formula="y_i = Σ_j softmax_{j ∈ block(i) and halo}(q_i · k_j / √D + q_i · Σ_a r_a[(j − i)_a]) v_j",
        source=Source("huggingface/pytorch-image-models", "aa4b585", "Apache-2.0"),
        fixtures=("halo_attention",),
        notes="The authors published no code; timm's is what this is held against. There, what lies outside the image "
        "is seen as keys and values of zeros, whose logits are those of their places (`border='zeros'`, the default); "
        "`hidden` leaves it out. Nothing is projected after the heads. The loaded module also serves timm's stride "
        "and other channels out.",
        small={"block": 4, "halo": 1},
    )
)
class Halo(TokenMixer):
    """Softmax attention of each block of tokens to the block and a halo, with a learned vector for each offset.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        block: Tokens of a block along each axis.
        halo: How many tokens further a block looks along each axis, on both sides.
        qkv_bias: Whether queries, keys and values have an additive bias.
        border: Whether what lies outside the grid is seen as keys of zeros, or hidden.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        block: int | tuple[int, ...] = 8,
        halo: int | tuple[int, ...] = 3,
        qkv_bias: bool = False,
        border: Literal["zeros", "hidden"] = "zeros",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        heads, head_dim = heads_of(dim, heads)
        self.dropout = dropout
        self.attention = HaloAttention(
            dim,
            dim,
            block=per_axis("block", block, rank),
            halo=per_axis("halo", halo, rank, minimum=0),
            heads=heads,
            head_dim=head_dim,
            qkv_bias=qkv_bias,
            border=border,
        )

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.attention(x, mask, self.dropout if self.training else 0.0)
