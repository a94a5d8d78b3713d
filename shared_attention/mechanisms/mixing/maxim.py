"""Half of the channels is mixed over a coarse grid, the other half inside blocks (MAXIM's multi-axis gated perceptron).

>>> import torch
>>> from shared_attention import build
>>> build("maxim", 16, rank=3, grid_size=2, block_size=(2, 4, 4))(torch.zeros(2, 4, 5, 6, 16)).shape
torch.Size([2, 4, 5, 6, 16])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.contract import TokenMixer
from shared_attention.mechanisms.mixing._maxim import EPS, GatedPerceptron, gelu, halves
from shared_attention.registry import Card, Source, register

__all__ = ["MultiAxisPerceptron"]


@register(
    Card(
        name="maxim",
        title="Multi-axis gated perceptron (MAXIM)",
        paper="Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*factor*C**2 + 3*N*(grid_factor + block_factor)*(factor*C/2)**2/2 "
        "+ N*factor*C*(grid_factor*grid_size**rank + block_factor*block_size**rank)/4",
        formula="a, b = halves of GELU(W₁ LN x)\ny = x + W₂ (grid-gMLP(a) ‖ block-gMLP(b))",
        source=Source("google-research/maxim", "3c82651", "Apache-2.0"),
        fixtures=("maxim_multiaxis_gmlp",),
        notes="The published networks take 16 for both sizes on large images and 8 on small ones. The grid is filled "
        "up with zeros to fit; the authors take sizes that fit. The number of parameters grows with the square of "
        "the tokens of a group.",
        small={"grid_size": 4, "block_size": 2},
    )
)
class MultiAxisPerceptron(TokenMixer):
    """Expand; one half through a grid gated perceptron, the other through a block one; project both back; residual.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        grid_size: Tokens of a group along each axis, spread over the whole grid.
        block_size: Tokens of a block along each axis.
        factor: Channels of both halves, as a multiple of `C`.
        grid_factor: Channels inside the grid perceptron, as a multiple of those of its half.
        block_factor: Channels inside the block perceptron, as a multiple of those of its half.
        bias: Whether linear layers have an additive bias.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        grid_size: int | tuple[int, ...] = 8,
        block_size: int | tuple[int, ...] = 8,
        factor: int = 2,
        grid_factor: int = 2,
        block_factor: int = 2,
        bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        half = halves("factor", factor, dim)
        halves("grid_factor", grid_factor, half)
        halves("block_factor", block_factor, half)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.expand = nn.Linear(dim, 2 * half, bias=bias)
        self.grid = GatedPerceptron(half, rank=rank, size=grid_size, layout="grid", factor=grid_factor, bias=bias)
        self.block = GatedPerceptron(half, rank=rank, size=block_size, layout="block", factor=block_factor, bias=bias)
        self.contract = nn.Linear(2 * half, dim, bias=bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        coarse, fine = gelu(self.expand(self.norm(x))).chunk(2, -1)  # (B, *S, E) each
        both = torch.cat([self.grid(coarse, mask=mask), self.block(fine, mask=mask)], -1)
        return x + self.contract(both)  # (B, *S, C)
