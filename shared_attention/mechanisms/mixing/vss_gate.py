"""The multi-head scan behind a convolution, beside a gate (the block core of MHS-VM).

>>> import torch
>>> from shared_attention import build
>>> build("vss_gate", 32, rank=2)(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.mixing.mhsm import MultiHeadScan
from shared_attention.registry import Card, Source, register

__all__ = ["GatedMultiHeadScan"]


@register(
    Card(
        name="vss_gate",
        title="Gated multi-head selective scan (MHS-VM)",
        paper="Ji, MHS-VM: Multi-Head Scanning in Parallel Subspaces for Vision Mamba, arXiv:2406.05992",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + N*C*kernel**rank + 4*N*C*(C/(8*heads) + 6*state)",
        formula="u, z = W x\ny = LN(MHSM(SiLU(dwconv(u)))) ⊙ SiLU(z)         MHSM: the mechanism `mhsm`",
        source=Source("PixDeep/MHS-VM", "be64b6f", "Apache-2.0"),
        fixtures=("mhsvm_vssgate",),
        notes="Takes the place of `ss2d` in the authors' network: no more channels inside, and no projection after the "
        "gate.",
        small={"state": 4},
    )
)
class GatedMultiHeadScan(TokenMixer):
    """Half of a projection is convolved, scanned by all heads and normalised, the other half gates it.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: One to four: `snake`, `diagonal`, `spiral` and `raster` routes, in this order.
        state: Numbers that each channel carries along a route.
        threshold: Variation over the routes that counts for nothing.
        project: Whether the heads are normalised and projected together.
        kernel: Size of the depthwise convolution before the scans, odd.
        bias: Whether the projection in has an additive bias.
        conv_bias: Whether the convolution has one.
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
        kernel: int = 3,
        bias: bool = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        self.project_in = nn.Linear(dim, 2 * dim, bias=bias)
        self.conv = Convolution(dim, dim, rank=rank, kernel=kernel, groups=dim, bias=conv_bias)
        self.scan = MultiHeadScan(dim, rank=rank, heads=heads, state=state, threshold=threshold, project=project)
        self.norm = nn.LayerNorm(dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        content, gate = self.project_in(x).chunk(2, -1)  # (B, *S, C) each
        scanned = self.scan(self.convolve(content, mask), mask=mask)
        return self.norm(scanned) * functional.silu(gate)  # (B, *S, C)

    def convolve(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the heads are given."""
        return functional.silu(self.conv(blank(x, mask)))
