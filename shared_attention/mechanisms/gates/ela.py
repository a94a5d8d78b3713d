"""Each row, column and slice of the grid is weighed by what it and its neighbours hold on average (ELA).

>>> import torch
>>> from shared_attention import build
>>> build("ela", 64, rank=2, size="large")(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from shared_attention.arguments import largest_divisor
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.norms import GroupNorm
from shared_attention.registry import Card, Source, register

__all__ = ["EfficientLocalAttention"]

_SIZES = {"tiny": (5, 1, 32), "base": (7, 1, 16), "small": (5, 8, 16), "large": (7, 8, 16)}
"""Kernel, channels of one group of the convolution, groups of the normalisation."""


@register(
    Card(
        name="ela",
        title="Efficient local attention (ELA)",
        paper="Xu and Wan, ELA: Efficient Local Attention for Deep Convolutional Neural Networks, arXiv:2403.01123",
        year=2024,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="rank*N*C + 7*rank*N**(1/rank)*C",
        formula="m_a = mean of x over all axes but a\n"
        "y = x ⊙ Π_a σ(GroupNorm(conv_k(m_a)))          convolution and normalisation are shared by the axes",
        source=Source("AIFengheshu/Plug-play-modules", "2f933bc", "none"),
        fixtures=("ela_unofficial",),
        notes="The authors published no code; this is held against an unofficial class, which is the paper's base "
        "size. The convolution and the normalisation are shared by all axes, as in the paper. Sizes of the "
        "convolution's and the normalisation's groups that do not divide the channels give way to the next smaller "
        "that do.",
        small={"kernel": 3},
    )
)
class EfficientLocalAttention(TokenMixer):
    """Scale a token by one weight an axis: means over the other axes, convolved along it, normalised, in a sigmoid.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        size: The paper's choice of the three numbers below: ELA-T, ELA-B, ELA-S or ELA-L.
        kernel: Places of an axis that weigh one, odd; None for that of the size.
        groups: Groups of channels of the convolution, a divisor of the channels; None for those of the size.
        norm_groups: Groups of channels that are normalised together, a divisor; None for those of the size.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        size: Literal["tiny", "base", "small", "large"] = "base",
        kernel: int | None = None,
        groups: int | None = None,
        norm_groups: int | None = None,
    ) -> None:
        super().__init__(dim, rank=rank)
        if size not in _SIZES:
            raise ValueError(f"size {size!r} is not one of {', '.join(_SIZES)}")
        default_kernel, width, default_norm_groups = _SIZES[size]
        kernel = default_kernel if kernel is None else kernel
        groups = largest_divisor(dim, dim // width) if groups is None else groups
        norm_groups = largest_divisor(dim, default_norm_groups) if norm_groups is None else norm_groups
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        for name, value in (("groups", groups), ("norm_groups", norm_groups)):
            if value < 1 or dim % value:
                raise ValueError(f"{name} {value} does not divide {dim} channels")
        self.conv = nn.Conv1d(dim, dim, kernel, padding=kernel // 2, groups=groups, bias=False)
        self.norm = GroupNorm(dim, groups=norm_groups)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        out = x
        for axis in range(1, self.rank + 1):
            out = out * self._weight(x, mask, axis)
        return out  # (B, *S, C)

    def _weight(self, x: Tensor, mask: Tensor | None, axis: int) -> Tensor:
        """Weights of the places of one axis: `(B, *S, C)` with size one along the other axes."""
        others = tuple(other for other in range(1, self.rank + 1) if other != axis)
        mean = masked_mean(x, mask, others) if others else x
        real = None if mask is None else mask.movedim(axis, 1).flatten(2).any(-1) if others else mask  # (B, L)
        line = self.conv(mean.flatten(1, -2).transpose(1, 2)).transpose(1, 2)  # (B, L, C)
        return self.norm(blank(line, real), real).sigmoid().view_as(mean)
