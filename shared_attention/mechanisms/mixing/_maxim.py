"""What the parts of MAXIM share: a linear layer along the tokens of each group, and a gated perceptron around it.

>>> import torch
>>> along = AlongTokens((2, 3), "grid")
>>> along(torch.zeros(2, 5, 6, 16)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 16])
"""

from __future__ import annotations

from math import prod
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis
from shared_attention.contract import TokenMixer, blank
from shared_attention.grids import crop, merge, merge_strided, pad_to_multiple, partition, partition_strided

__all__ = ["EPS", "AlongTokens", "GatedPerceptron", "Layout", "gelu", "halves"]

Layout = Literal["grid", "block"]

EPS = 1e-6
"""Of every LayerNorm in the published code."""


def gelu(x: Tensor) -> Tensor:
    """The approximation by tanh, as in the published code."""
    return functional.gelu(x, approximate="tanh")


def halves(name: str, factor: int, dim: int) -> int:
    """Half of `factor * dim` channels.

    Raises:
        ValueError: They have no half.
    """
    if factor < 1 or factor * dim % 2:
        raise ValueError(f"{name} {factor} times {dim} channels is not an even number above zero")
    return factor * dim // 2


class AlongTokens(nn.Module):
    """A linear layer along the tokens of each group, the same for all groups and channels.

    Args:
        size: Tokens of a group along each axis.
        layout: `block` for neighbours, `grid` for tokens spread evenly over the whole grid.
        bias: Whether each token of a group has an additive bias.
        start: First value of the bias.
    """

    def __init__(self, size: tuple[int, ...], layout: Layout, *, bias: bool = True, start: float = 0.0) -> None:
        super().__init__()
        self.size, self.layout = size, layout
        self.weight = nn.Parameter(0.02 * torch.randn(prod(size), prod(size)))
        self.bias = nn.Parameter(torch.full((prod(size),), start)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, *S, C)` to the same; padded tokens must be zero, and the grid is filled up with zeros to fit."""
        grid = x.shape[1:-1]
        x, _ = pad_to_multiple(x, self.size)
        cut, join = (partition, merge) if self.layout == "block" else (partition_strided, merge_strided)
        mixed = self.weight @ cut(x, self.size)  # (B, G, n, C)
        if self.bias is not None:
            mixed = mixed + self.bias[:, None]
        return crop(join(mixed, self.size, x.shape[1:-1]), grid)


class GatedPerceptron(TokenMixer):
    """`x + W(u * (1 + mixed(v)))` with u and v halves of an expansion of x, and v mixed along the tokens of groups.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        size: Tokens of a group along each axis.
        layout: What groups are.
        factor: Channels of both halves, as a multiple of `C`.
        bias: Whether linear layers have an additive bias.
    """

    def __init__(
        self, dim: int, *, rank: int, size: int | tuple[int, ...], layout: Layout, factor: int, bias: bool
    ) -> None:
        super().__init__(dim, rank=rank)
        half = halves("factor", factor, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.expand = nn.Linear(dim, 2 * half, bias=bias)
        self.gate_norm = nn.LayerNorm(half, eps=EPS)
        self.along = AlongTokens(per_axis(f"{layout}_size", size, rank), layout, bias=bias)
        self.contract = nn.Linear(half, dim, bias=bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        content, gate = gelu(self.expand(self.norm(x))).chunk(2, -1)  # (B, *S, E) each
        gate = self.along(blank(self.gate_norm(gate), mask))
        return x + self.contract(content * (gate + 1))  # (B, *S, C)
