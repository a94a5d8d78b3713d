"""Tokens spread evenly over the whole grid gate one another (MAXIM's grid gMLP).

>>> import torch
>>> from shared_attention import build
>>> build("maxim_grid", 16, rank=2)(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from shared_attention.mechanisms.mixing._maxim import GatedPerceptron
from shared_attention.registry import Card, Source, register

__all__ = ["GridPerceptron"]


@register(
    Card(
        name="maxim_grid",
        title="Grid gated perceptron (MAXIM)",
        paper="Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*factor*C**2/2 + N*factor*C*grid_size**rank/2",
        formula="u, v = halves of GELU(W₁ LN x)\n"
        "y = x + W₂ (u ⊙ (1 + T LN v + b))              T mixes tokens that lie a fixed part of the grid apart",
        source=Source("google-research/maxim", "3c82651", "Apache-2.0"),
        fixtures=("maxim_grid_gmlp",),
        notes="The grid is filled up with zeros to a multiple of the size; the authors take sizes that fit. The number "
        "of parameters grows with the square of the tokens of a group.",
        small={"grid_size": 4},
    )
)
class GridPerceptron(GatedPerceptron):
    """A residual gated perceptron along tokens that lie equally far apart.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        grid_size: Tokens of a group along each axis, spread over the whole grid.
        factor: Channels of both halves of the expansion, as a multiple of `C`.
        bias: Whether linear layers have an additive bias.
    """

    def __init__(
        self, dim: int, *, rank: int, grid_size: int | tuple[int, ...] = 8, factor: int = 2, bias: bool = True
    ) -> None:
        super().__init__(dim, rank=rank, size=grid_size, layout="grid", factor=factor, bias=bias)
