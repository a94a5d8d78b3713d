"""Attention in blocks of neighbours, or among tokens spread evenly over the whole grid (MaxViT).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("maxvit", 32, rank=3, window=4, partition="grid")
>>> mixer(torch.zeros(1, 8, 12, 10, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 8, 12, 10, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from shared_attention.arguments import per_axis
from shared_attention.grouped import GroupedAttention
from shared_attention.positions import RelativeTable
from shared_attention.registry import Card, Source, register

__all__ = ["MaxViT"]


@register(
    Card(
        name="maxvit",
        title="Block and grid attention (MaxViT)",
        paper="Tu et al., MaxViT: Multi-Axis Vision Transformer, ECCV 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C",
        formula="y_i = W Σ_j softmax_{j ∈ G(i)}(q_i · k_j / √D + B[i − j]) v_j\n"
        "G(i): block of `window` neighbours, or `window` tokens spread evenly over the grid",
        source=Source("google-research/maxvit", "70a4707", "Apache-2.0"),
        fixtures=("maxvit_partition_attention", "maxvit_partition_attention_tf"),
        notes="The bias is indexed by query minus key, as in Swin; the authors' own code indexes by key minus query "
        "and its tables are turned around when loaded. A grid of `window` tokens spans the whole grid, whatever its "
        "size. What does not divide is padded and hidden; the authors require that it divides.",
        small={"window": 4},
        alternation=({"partition": "block"}, {"partition": "grid"}),
    )
)
class MaxViT(GroupedAttention):
    """Softmax attention in groups of neighbours or of tokens that lie far apart, with a learned bias for each offset.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a group along each axis.
        partition: Whether a group is a block of neighbours or a grid over everything.
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
        partition: Literal["block", "grid"] = "block",
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.partition = partition
        self.position = RelativeTable(self.window, self.heads)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        window = tuple(min(pair) for pair in zip(grid, self.window, strict=True))
        apart = [-(-size // part) for size, part in zip(grid, window, strict=True)]
        step = apart if self.partition == "grid" else None
        return self.in_groups(x, mask, size=window, step=step, bias=self.position(window))
