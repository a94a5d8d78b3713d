"""Every frequency of the whole grid is weighed, channel by channel (SpectFormer's spectral gating).

>>> import torch
>>> from shared_attention import build
>>> build("spectral_gating", 16, rank=2, grid=8)(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis
from shared_attention.contract import TokenMixer
from shared_attention.registry import Card, Source, register

__all__ = ["SpectralGating"]


@register(
    Card(
        name="spectral_gating",
        title="Spectral gating (SpectFormer)",
        paper="Patro et al., SpectFormer: Frequency and Attention is what you need in a Vision Transformer, "
        "arXiv:2304.06446",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*C*log2(N + 1) + 2*N*C",
        formula="y = FFT⁻¹(G ⊙ FFT(x))                          G: complex, for each frequency and channel",
        source=Source("badripatro/SpectFormers", "b6cf487", "none"),
        fixtures=("spectformer_sgn", "spectformer_block"),
        notes="The same as GFNet's global filter. The weights belong to one grid; on another the kernel that they "
        "stand for (its circular convolution is the same) is cropped or filled up with zeros, where the authors' code "
        "fails. Computed in float32 at least, as published. The published block has one residual around both the "
        "gating and the feed-forward part.",
        small={"grid": 6},
    )
)
class SpectralGating(TokenMixer):
    """A real Fourier transform over all grid axes, a learned complex weight for each frequency and channel, and back.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        grid: Tokens along each axis of the grid that the weights belong to.
    """

    def __init__(self, dim: int, *, rank: int, grid: int | tuple[int, ...] = 14) -> None:
        super().__init__(dim, rank=rank)
        self.grid = per_axis("grid", grid, rank)
        self.weight = nn.Parameter(0.02 * torch.randn(*self.grid[:-1], self.grid[-1] // 2 + 1, dim, 2))

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid, axes = x.shape[1:-1], tuple(range(1, x.ndim - 1))
        with torch.autocast(x.device.type, enabled=False):
            wide = x.to(torch.promote_types(x.dtype, torch.float32))
            spectrum = torch.fft.rfftn(wide, dim=axes, norm="ortho") * self.filter(grid, wide.dtype)
            return torch.fft.irfftn(spectrum, s=tuple(grid), dim=axes, norm="ortho").to(x.dtype)  # (B, *S, C)

    def filter(self, grid: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
        """The complex weights for a grid: `(*S, C)`, the last axis halved."""
        weight = torch.view_as_complex(self.weight.to(dtype).contiguous())
        if tuple(grid) == self.grid:
            return weight
        axes = tuple(range(self.rank))
        kernel = torch.fft.fftshift(torch.fft.irfftn(weight, s=self.grid, dim=axes), dim=axes)
        widths = [0, 0]  # of the channels
        for size, given in zip(reversed(tuple(grid)), reversed(self.grid), strict=True):
            before = size // 2 - given // 2
            widths += [before, size - given - before]
        return torch.fft.rfftn(torch.fft.ifftshift(functional.pad(kernel, widths), dim=axes), dim=axes)
