"""One token for each patch, from convolutions of several sizes around it (CrossFormer's cross-scale embedding).

>>> import torch
>>> from shared_attention import build
>>> embed = build("cross_scale", 3, rank=2, kind="reducer", out=64)
>>> reduced = embed(torch.zeros(2, 32, 30, 3))  # (B, *S, C)
>>> reduced.tokens.shape  # (B, K, E), a token for each 4 x 4 patch
torch.Size([2, 64, 64])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.contract import Reduced, Reducer
from shared_attention.convolutions import Convolution
from shared_attention.grids import pad_grid, pad_to_multiple, partition_map
from shared_attention.registry import Card, Source, register

__all__ = ["CrossScaleEmbedding"]


@register(
    Card(
        name="cross_scale",
        title="Cross-scale embedding (CrossFormer)",
        paper="Wang et al., CrossFormer: A Versatile Vision Transformer Hinging on Cross-scale Attention, ICLR 2022",
        year=2022,
        kind="reducer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="N*C**2*(1/2 + 2**rank/4 + 4**rank/8 + 8**rank/8)",
        formula="y_r = LayerNorm(conv_{k₁}(x)_r ‖ conv_{k₂}(x)_r ‖ …)   around every `stride`-th place\n"
        "channels of the parts: E/2, E/4, …, the last two alike",
        source=Source("cheerss/CrossFormer", "7952010", "MIT"),
        fixtures=("crossformer_cel",),
        notes="The smallest kernel gives half of the channels, the next a quarter, and so on; the last two give the "
        "same. Tokens are row-major over the patches. A grid that the patches do not divide is padded at the end; the "
        "authors require that it divides. The cost is that of four kernels; on three axes the default takes two of "
        "them, at 4.5*N*C**2.",
        small={"kernels": (2, 4), "stride": 2},
    )
)
class CrossScaleEmbedding(Reducer):
    """Convolutions of several sizes around the same centres, side by side.

    Args:
        dim: Channels `C` in.
        rank: Grid axes.
        out: Channels `E` out; None for as many as come in.
        kernels: Sizes of the kernels, the same on each axis, none below the stride; None for 4, 8, 16 and 32 times the
            stride over 4, without the larger two on three axes.
        stride: Size of a patch along each axis.
        norm: Whether tokens are normalised at the end.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        out: int | None = None,
        kernels: tuple[int, ...] | None = None,
        stride: int = 4,
        norm: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("stride", stride)
        if kernels is None:
            kernels = tuple(stride * 2**power for power in range(2 if rank == 3 else 4))
        if min(kernels) < stride:
            raise ValueError(f"kernels {kernels} hold a size below the stride {stride}")
        self.stride = stride
        self.out = dim if out is None else out
        positive("out", self.out)
        widths = _widths(self.out, len(kernels))
        self.kernels = tuple(kernels[: len(widths)])
        self.branches = nn.ModuleList(
            Convolution(dim, width, rank=rank, kernel=kernel, stride=stride, padding=0)
            for kernel, width in zip(self.kernels, widths, strict=True)
        )
        self.norm = nn.LayerNorm(self.out) if norm else nn.Identity()

    def reduce(self, x: Tensor, mask: Tensor | None, sizes: Tensor) -> Reduced:
        grid = x.shape[1:-1]
        patch = [self.stride] * self.rank
        x, _ = pad_to_multiple(x, patch)
        parts = []
        for kernel, branch in zip(self.kernels, self.branches, strict=True):
            around = kernel - self.stride
            before = around // 2
            parts.append(branch(pad_grid(x, [before] * self.rank, [around - before] * self.rank)).flatten(1, -2))
        tokens = self.norm(torch.cat(parts, -1))  # (B, K, E)
        counted, _ = pad_to_multiple(sizes.unsqueeze(-1), patch)
        found = partition_map(counted.squeeze(-1), patch).sum(-1)  # (B, K)
        count = [size // self.stride for size in x.shape[1:-1]]
        source = torch.arange(found.shape[1], device=x.device).view(count)
        for axis, size in enumerate(grid):
            source = source.repeat_interleave(self.stride, axis).narrow(axis, 0, size)
        source = source.flatten().expand(x.shape[0], -1)  # (B, N)
        if mask is not None:
            source = source.masked_fill(~mask.flatten(1), -1)
        return Reduced(tokens.masked_fill((found == 0).unsqueeze(-1), 0.0), found, source)


def _widths(channels: int, branches: int) -> list[int]:
    """Half of the channels, half of what is left, ..., all that is left; without branches that get none."""
    widths = []
    for branch in range(branches):
        width = channels if branch == branches - 1 else -(-channels // 2)
        widths.append(width)
        channels -= width
    return [width for width in widths if width]
