"""Attention in groups of neighbours, or of tokens a fixed interval apart; a network gives the bias (CrossFormer).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("crossformer", 32, rank=2, window=4, distance="long", interval=2)
>>> mixer(torch.zeros(1, 8, 11, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 8, 11, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from shared_attention.arguments import per_axis, positive
from shared_attention.grouped import GroupedAttention
from shared_attention.positions import DynamicBias
from shared_attention.registry import Card, Source, register

__all__ = ["CrossFormer"]


@register(
    Card(
        name="crossformer",
        title="Long and short distance attention (CrossFormer)",
        paper="Wang et al., CrossFormer: A Versatile Vision Transformer Hinging on Cross-scale Attention, ICLR 2022; "
        "CrossFormer++, TPAMI 2023",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C",
        formula="G(i) = block of `window` neighbours, or `window` tokens `interval` apart along each axis\n"
        "y_i = W Σ_j softmax_{j ∈ G(i)}(q_i · k_j / √D + MLP(i − j)) v_j",
        source=Source("cheerss/CrossFormer", "7952010", "MIT"),
        fixtures=("crossformer_block",),
        notes="Long distance as in CrossFormer++: groups of `window` tokens `interval` apart, within regions of "
        "`window * interval`; in CrossFormer itself the interval is chosen so that one region is the image, which is "
        "`interval=None` here, on any grid. The authors' network is a sixteenth of the channels wide, also where that "
        "is one or two. Where their image is no larger than the window they attend at short distance in windows of its "
        "smaller side; the loaded weights do the same. The cross-scale embedding is `cross_scale`; the layer that ends "
        "some blocks of CrossFormer++ comes with the loaded block.",
        small={"window": 3, "distance": "long"},
        alternation=({"distance": "short"}, {"distance": "long"}),
    )
)
class CrossFormer(GroupedAttention):
    """Softmax attention in groups of near or of far tokens, with a bias that a small network gives for each offset.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a group along each axis.
        distance: Whether a group is of neighbours or of tokens that lie apart.
        interval: How far they lie apart along each axis; None so that one group spans the grid.
        centred: Whether a grid that the groups do not divide is padded on both sides, instead of at the end.
        border: Whether padded tokens are hidden, or are tokens of zeros that are seen (`no_mask` of the authors).
        hidden: Width of the network that gives the bias; None for a sixteenth of the channels, at least 8.
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
        distance: Literal["short", "long"] = "short",
        interval: int | tuple[int, ...] | None = None,
        centred: bool = False,
        border: Literal["hidden", "zeros"] = "hidden",
        hidden: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.distance = distance
        if hidden is not None:
            positive("hidden", hidden)
        self.interval = None if interval is None else per_axis("interval", interval, rank)
        self.centred, self.border = centred, border
        self.position = DynamicBias(dim, rank=rank, heads=self.heads, hidden=hidden)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        size, step = self._groups(grid)
        bias = self.position(size)
        return self.in_groups(x, mask, size=size, step=step, bias=bias, border=self.border, centred=self.centred)

    def _groups(self, grid: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Tokens of a group along each axis and how far apart they lie."""
        small = tuple(min(pair) for pair in zip(grid, self.window, strict=True))
        if self.distance == "short":
            return small, (1,) * len(grid)
        spanning = tuple(-(-size // part) for size, part in zip(grid, small, strict=True))
        if self.interval is None:
            return small, spanning
        if self.centred or self.border == "zeros":
            return small, self.interval
        # where one region is larger than the grid, groups end with it: what is left out would be padding
        reached = tuple(-(-size // step) for size, step in zip(grid, self.interval, strict=True))
        return tuple(min(pair) for pair in zip(small, reached, strict=True)), self.interval
