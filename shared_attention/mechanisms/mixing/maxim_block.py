"""Tokens of a block of neighbours gate one another (MAXIM's block gMLP).

>>> import torch
>>> from shared_attention import build
>>> build("maxim_block", 16, rank=2)(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from shared_attention.mechanisms.mixing._maxim import GatedPerceptron
from shared_attention.registry import Card, Source, register

__all__ = ["BlockPerceptron"]


@register(
    Card(
        name="maxim_block",
        title="Block gated perceptron (MAXIM)",
        paper="Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*factor*C**2/2 + N*factor*C*block_size**rank/2",
        formula="u, v = halves of GELU(W₁ LN x)\n"
        "y = x + W₂ (u ⊙ (1 + T LN v + b))              T mixes the tokens of each block of neighbours",
        source=Source("google-research/maxim", "3c82651", "Apache-2.0"),
        fixtures=("maxim_block_gmlp",),
        notes="The grid is filled up with zeros to whole blocks; the authors take sizes that fit. The number of "
        "parameters grows with the square of the tokens of a group.",
        small={"block_size": 4},
    )
)
class BlockPerceptron(GatedPerceptron):
    """A residual gated perceptron along the tokens of each block.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        block_size: Tokens of a block along each axis.
        factor: Channels of both halves of the expansion, as a multiple of `C`.
        bias: Whether linear layers have an additive bias.
    """

    def __init__(
        self, dim: int, *, rank: int, block_size: int | tuple[int, ...] = 8, factor: int = 2, bias: bool = True
    ) -> None:
        super().__init__(dim, rank=rank, size=block_size, layout="block", factor=factor, bias=bias)
