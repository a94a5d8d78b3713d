"""Patches of the grid become the kernels of a convolution over all of it (global dynamic convolution of TML).

>>> import torch
>>> from shared_attention import build
>>> build("gdc", 16, rank=2, patch=3, grid=9)(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis
from shared_attention.contract import TokenMixer
from shared_attention.convolutions import Convolution
from shared_attention.grids import pad_grid
from shared_attention.registry import Card, Source, register
from shared_attention.resizing import resized

__all__ = ["GlobalDynamicConvolution"]


@register(
    Card(
        name="gdc",
        title="Global dynamic convolution (TML)",
        paper="Song et al., Troublemaker Learning for Low-Light Image Enhancement, arXiv:2402.04584",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="N*C**2 + N*C*(kernel**rank + 1) + N*C**2/patch**rank",
        formula="u_p = GELU(LN(dwconv_patch(x)_p + o_p))        one kernel for each patch p\n"
        "m_ip = u_p · dwconv_k(x)_i                     one map for each patch\n"
        "y_i = x_i + W m_i + b",
        source=Source("Rainbowman0/TML_LLIE", "6a9f952", "none"),
        fixtures=("tml_gdc",),
        notes="As no activation stands between the map of each patch and the projection of all maps, both are one "
        "dynamic matrix of C x C: the maps, which grow with the square of the tokens, are never made. Tokens after the "
        "last whole patch make no kernel, as published. The weights belong to one grid; on another they are "
        "interpolated and scaled, where the authors' code fails.",
        small={"patch": 2, "grid": 8, "kernel": 3},
    )
)
class GlobalDynamicConvolution(TokenMixer):
    """`x + project(maps)`, each map the product of one patch's summary with a depthwise convolution of all tokens.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        patch: Tokens of a patch along each axis.
        grid: Tokens along each axis of the grid that the weights of patches belong to; None for two patches.
        kernel: Size of the depthwise convolution, odd.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        patch: int = 7,
        grid: int | tuple[int, ...] | None = None,
        kernel: int = 7,
    ) -> None:
        super().__init__(dim, rank=rank)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        sizes = per_axis("patch", patch, rank)
        own = per_axis("grid", 2 * patch if grid is None else grid, rank)
        if any(size < part for size, part in zip(own, sizes, strict=True)):
            raise ValueError(f"grid {own} is smaller than the patch {sizes}")
        self.patch = patch
        self.patches = tuple(size // patch for size in own)
        self.summary = Convolution(dim, dim, rank=rank, kernel=patch, stride=patch, padding=0, groups=dim)
        self.offset = nn.Parameter(torch.randn(dim, *self.patches))
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.keys = Convolution(dim, dim, rank=rank, kernel=kernel, groups=dim)
        self.shift = nn.Parameter(torch.zeros(1))
        self.project = nn.Linear(prod(self.patches), dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        filled = pad_grid(x, [0] * self.rank, [max(0, self.patch - size) for size in grid])
        summary = self.summary(filled)  # (B, *P, C)
        patches = summary.shape[1:-1]
        summary = summary + resized(self.offset[None], patches)[0].movedim(0, -1)
        kernels = functional.gelu(self.norm(summary)).flatten(1, -2)  # (B, P, C)
        weight = resized(self.project.weight.unflatten(1, self.patches)[None], patches)[0].flatten(1)  # (C, P)
        weight = weight * (prod(self.patches) / prod(patches))
        dynamic = weight @ kernels  # (B, C, C): one matrix for all maps and their projection
        maps = self.keys(x).flatten(1, -2) @ dynamic.mT  # (B, N, C)
        return x + maps.unflatten(1, grid) + (self.shift * weight.sum(1) + self.project.bias)  # (B, *S, C)
