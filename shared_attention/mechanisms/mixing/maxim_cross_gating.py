"""Two grids of tokens gate each other (MAXIM's cross-gating).

>>> import torch
>>> from shared_attention import build
>>> pair = build("maxim_cross_gating", 16, rank=2, kind="pair")
>>> skip, deep = pair(torch.zeros(2, 9, 10, 16), torch.zeros(2, 9, 10, 16))
>>> skip.shape, deep.shape
(torch.Size([2, 9, 10, 16]), torch.Size([2, 9, 10, 16]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.arguments import per_axis
from shared_attention.contract import Pair, blank
from shared_attention.mechanisms.mixing._maxim import EPS, AlongTokens, gelu, halves
from shared_attention.registry import Card, Source, register

__all__ = ["CrossGating"]


class _Gate(nn.Module):
    """The weights that one of the two puts on the other: a grid and a block perceptron without residual."""

    def __init__(
        self, dim: int, *, grid_size: tuple[int, ...], block_size: tuple[int, ...], factor: int, bias: bool
    ) -> None:
        super().__init__()
        half = halves("factor", factor, dim)
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.expand = nn.Linear(dim, 2 * half, bias=bias)
        self.grid = AlongTokens(grid_size, "grid", bias=bias, start=1.0)
        self.block = AlongTokens(block_size, "block", bias=bias, start=1.0)
        self.contract = nn.Linear(2 * half, dim, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        coarse, fine = blank(gelu(self.expand(self.norm(x))), mask).chunk(2, -1)  # (B, *S, E) each
        return blank(self.contract(torch.cat([self.grid(coarse), self.block(fine)], -1)), mask)  # (B, *S, C)


class _Side(nn.Module):
    """What each of the two has of its own."""

    def __init__(
        self, dim: int, *, grid_size: tuple[int, ...], block_size: tuple[int, ...], factor: int, bias: bool
    ) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=EPS)
        self.content = nn.Linear(dim, dim, bias=bias)
        self.gate = _Gate(dim, grid_size=grid_size, block_size=block_size, factor=factor, bias=bias)
        self.project = nn.Linear(dim, dim, bias=bias)


@register(
    Card(
        name="maxim_cross_gating",
        title="Cross-gating (MAXIM)",
        paper="Tu et al., MAXIM: Multi-Axis MLP for Image Processing, CVPR 2022",
        year=2022,
        kind="pair",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("cross",),
        cost="6*N*C**2 + 4*N*factor*C**2 + N*factor*C*(grid_size**rank + block_size**rank)",
        formula="x, y ← Wx x, Wy y;  a = GELU(W LN x),  b = GELU(W LN y)\n"
        "gate(z) = W (T_grid u ‖ T_block v),  u, v = halves of GELU(W LN z)\n"
        "y' = y + W (b ⊙ gate(a));   x' = x + W (a ⊙ gate(b)) + y'",
        source=Source("google-research/maxim", "3c82651", "Apache-2.0"),
        fixtures=("maxim_cross_gating",),
        notes="Both sets have one grid and as many channels; the authors' projections of other channels and of a grid "
        "half as large (`upsample_y`) stand before it. The first set gets the second's result added. A token whose "
        "partner is padded is gated by zero.",
        small={"grid_size": 4, "block_size": 2},
    )
)
class CrossGating(Pair):
    """Each set, projected, is multiplied by weights made from the other, projected again, and added to itself.

    Args:
        dim: Channels `C` of both.
        rank: Grid axes of both.
        grid_size: Tokens of a group along each axis, spread over the whole grid.
        block_size: Tokens of a block along each axis.
        factor: Channels inside the gates, as a multiple of `C`.
        bias: Whether linear layers have an additive bias.
        project: Whether both are projected before all else.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        grid_size: int | tuple[int, ...] = 8,
        block_size: int | tuple[int, ...] = 8,
        factor: int = 2,
        bias: bool = True,
        project: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        grid, block = per_axis("grid_size", grid_size, rank), per_axis("block_size", block_size, rank)
        self.project_x = nn.Linear(dim, dim, bias=bias) if project else nn.Identity()
        self.project_y = nn.Linear(dim, dim, bias=bias) if project else nn.Identity()
        self.x = _Side(dim, grid_size=grid, block_size=block, factor=factor, bias=bias)
        self.y = _Side(dim, grid_size=grid, block_size=block, factor=factor, bias=bias)

    def exchange(self, x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        if x.shape != y.shape:
            raise ValueError(f"y {tuple(y.shape)} has another grid than x {tuple(x.shape)}; cross-gating needs one")
        x, y = self.project_x(x), self.project_y(y)
        content_x, content_y = gelu(self.x.content(self.x.norm(x))), gelu(self.y.content(self.y.norm(y)))
        gate_x, gate_y = self.x.gate(content_x, x_mask), self.y.gate(content_y, y_mask)
        y = blank(self.y.project(content_y * gate_x) + y, y_mask)  # (B, *S, C)
        return self.x.project(content_x * gate_y) + x + y, y
