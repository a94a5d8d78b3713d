"""A state is carried along each axis of the grid, there and back (SS2D of VMamba and VM-UNet).

>>> import torch
>>> from shared_attention import build
>>> build("ss2d", 32, rank=3)(torch.zeros(2, 4, 5, 6, 32)).shape  # (B, *S, C) stays
torch.Size([2, 4, 5, 6, 32])
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import positive
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.registry import Card, Source, register
from shared_attention.routes import axis_routes
from shared_attention.selective_scan import SelectiveScan

__all__ = ["CrossScan"]


@register(
    Card(
        name="ss2d",
        title="Cross-scan of a selective state space (SS2D)",
        paper="Ruan et al., VM-UNet: Vision Mamba UNet for Medical Image Segmentation, arXiv:2402.02491",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*expand*C**2 + N*expand*C*(kernel**rank + 2*rank*(C/8 + 6*state))",
        formula="u, z = W₁ x;  u ← SiLU(dwconv(u))\n"
        "h_t = exp(δ_t A) h_{t−1} + δ_t B_t u_t;  s_t = C_t h_t + D u_t     δ, B, C computed from u_t\n"
        "y = W₂ (LN(Σ_r s along route r) ⊙ SiLU(z))     routes: each axis, there and back",
        source=Source("JCruan519/VM-UNet", "43c495b", "Apache-2.0"),
        fixtures=("vmunet_ss2d",),
        notes="The authors need a compiled extension; this runs anywhere, in memory linear in the tokens. Two routes "
        "an axis: two on a line, four on an image as published, six in a volume. A padded token leaves every state as "
        "it is, so a padded image gives what the cropped one gives.",
        small={"state": 4},
    )
)
class CrossScan(TokenMixer):
    """Selective scans along every axis in both directions, summed, normalised and gated.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        state: Numbers that each channel carries along a route.
        kernel: Size of the depthwise convolution before the scans, odd.
        expand: Channels inside, as a multiple of `C`.
        step_rank: Numbers that a token's step is computed from; None for a sixteenth of `C`, rounded up.
        bias: Whether the projections in and out have an additive bias.
        conv_bias: Whether the convolution has one.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        state: int = 16,
        kernel: int = 3,
        expand: float = 2.0,
        step_rank: int | None = None,
        bias: bool = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        inner = int(expand * dim)
        positive(f"expand {expand} times {dim} channels:", inner)
        self.project_in = nn.Linear(dim, 2 * inner, bias=bias)
        self.conv = Convolution(inner, inner, rank=rank, kernel=kernel, groups=inner, bias=conv_bias)
        self.scan = SelectiveScan(
            inner, routes=2 * rank, state=state, step_rank=ceil(dim / 16) if step_rank is None else step_rank
        )
        self.norm = nn.LayerNorm(inner)
        self.project_out = nn.Linear(inner, dim, bias=bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        content, gate = self.project_in(x).chunk(2, -1)  # (B, *S, E) each
        content = functional.silu(self.conv(blank(content, mask)))
        routes = axis_routes(grid, x.device)
        order = torch.cat([routes, routes.flip(-1)])  # (2 rank, N)
        real = None if mask is None else mask.flatten(1)
        scanned = self.scan(content.flatten(1, -2)[:, None], order, real).sum(1)  # (B, N, E)
        return self.project_out(self.norm(scanned).unflatten(1, grid) * functional.silu(gate))  # (B, *S, C)
