"""Attention in windows without a bias; place is told by a convolution around it (DaViT's spatial part).

>>> import torch
>>> from shared_attention import build
>>> build("davit_spatial", 32, rank=2, window=4)(torch.zeros(1, 9, 6, 32)).shape  # (B, *S, C) stays
torch.Size([1, 9, 6, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from shared_attention.arguments import per_axis
from shared_attention.grouped import GroupedAttention
from shared_attention.registry import Card, Source, register

__all__ = ["DavitSpatial"]


@register(
    Card(
        name="davit_spatial",
        title="Window attention of dual attention (DaViT, spatial)",
        paper="Ding et al., DaViT: Dual Attention Vision Transformers, ECCV 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C",
        formula="y_i = W Σ_j softmax_{j ∈ window(i)}(q_i · k_j / √D) v_j",
        source=Source("dingmyu/davit", "fc79470", "MIT"),
        fixtures=("davit_spatial_block",),
        notes="No bias and no shift: in the published block a depthwise convolution before the mixer and before the "
        "feed-forward part tells places (`Block(..., encode=True)`). Alternates with `davit_channel`. On grids that "
        "the windows do not divide the released code lets tokens see the padding, as tokens of zeros: "
        "`border='zeros'`, which the authors' weights are loaded with; by default it is hidden.",
        small={"window": 4},
    )
)
class DavitSpatial(GroupedAttention):
    """Softmax attention among the tokens of each window.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a window along each axis.
        border: Whether padding is hidden, or is seen as tokens of zeros.
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
        border: Literal["hidden", "zeros"] = "hidden",
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.border = border

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        window = self.window
        if self.border == "hidden":  # what is hidden need not be there
            window = tuple(min(pair) for pair in zip(x.shape[1:-1], window, strict=True))
        return self.in_groups(x, mask, size=window, border=self.border)
