"""Each head scans the grid along routes of its own shape (multi-head scan of MHS-VM).

>>> import torch
>>> from shared_attention import build
>>> build("mhsm", 32, rank=2)(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.contract import TokenMixer
from shared_attention.registry import Card, Source, register
from shared_attention.routes import Family, both_ways, plane_routes
from shared_attention.selective_scan import SelectiveScan

__all__ = ["FAMILIES", "MultiHeadScan", "fuse_routes"]

FAMILIES: tuple[Family, ...] = ("snake", "diagonal", "spiral", "raster")
"""Routes of the first head, the second, ..."""


def fuse_routes(scans: Tensor, threshold: float, dim: int = 1) -> Tensor:
    """The sum over routes, weighed by how much they differ (scan route attention).

    The weight of each number is its coefficient of variation over the routes, above `threshold`; the standard
    deviation is the unbiased one, the mean is that of the distances from the smallest.

    Args:
        scans: Any shape, the routes on axis `dim`.
        threshold: Variation that counts for nothing.
        dim: Axis of the routes, which goes.
    """
    distance = (scans - scans.amin(dim, keepdim=True)).mean(dim)
    return scans.sum(dim) * functional.relu(scans.std(dim) / (distance + 1e-5) - threshold)


@register(
    Card(
        name="mhsm",
        title="Multi-head selective scan (MHS-VM)",
        paper="Ji, MHS-VM: Multi-Head Scanning in Parallel Subspaces for Vision Mamba, arXiv:2406.05992",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*C**2 + 4*N*C*(C/(8*heads) + 6*state)",
        formula="s_{h,r} = selective scan of head h of W₁ x along route r      4 routes of the head's family\n"
        "y = W₂ LN(‖_h Σ_r s_{h,r} ⊙ relu(cv_h − t)),  cv = std_r(s) / mean_r(s − min_r s)",
        source=Source("PixDeep/MHS-VM", "be64b6f", "Apache-2.0"),
        fixtures=("mhsvm_mhsm", "mhsvm_routes"),
        notes="Channels that the heads do not divide are dropped inside, as published. A line is an image of one row; "
        "a volume is walked plane by plane, every second one backwards. On a line the four families are one and its "
        "reverse. A padded token leaves every state as it is.",
        flat=True,
        small={"state": 4},
    )
)
class MultiHeadScan(TokenMixer):
    """Project to heads, scan each along four routes of its family, fuse the routes, normalise, project back.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: One to four: `snake`, `diagonal`, `spiral` and `raster` routes, in this order.
        state: Numbers that each channel carries along a route.
        threshold: Variation over the routes that counts for nothing.
        project: Whether the heads are normalised and projected together.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int = 4,
        state: int = 16,
        threshold: float = 0.0,
        project: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        if not 1 <= heads <= min(len(FAMILIES), dim):
            raise ValueError(f"heads {heads} is not from 1 to {min(len(FAMILIES), dim)}, for {dim} channels")
        if not project and dim % heads:
            raise ValueError(f"heads {heads} does not divide {dim} channels, which needs project=True")
        self.heads, self.threshold = heads, threshold
        width = dim // heads
        self.project_in = nn.Linear(dim, heads * width, bias=False)
        self.scan = SelectiveScan(width, routes=4 * heads, state=state)
        self.norm = nn.LayerNorm(heads * width) if project else nn.Identity()
        self.project_out = nn.Linear(heads * width, dim, bias=False) if project else nn.Identity()

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        heads = self.project_in(x).flatten(1, -2).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, D)
        order = torch.cat([both_ways(plane_routes(grid, one, x.device)) for one in FAMILIES[: self.heads]])
        scans = self.scan(heads, order, None if mask is None else mask.flatten(1)).unflatten(1, (self.heads, 4))
        fused = fuse_routes(scans, self.threshold, 2).transpose(1, 2).flatten(2)  # (B, N, H D)
        return self.project_out(self.norm(fused)).unflatten(1, grid)  # (B, *S, C)
