"""Position by a depthwise convolution of the values, added to what attention gives (LePE of CSWin).

>>> import torch
>>> part = LocalEnhancement(16, rank=2)
>>> part(torch.zeros(6, 4, 5, 16)).shape  # each of six stripes on its own, zeros around it
torch.Size([6, 4, 5, 16])
"""

from __future__ import annotations

from shared_attention.convolutions import Convolution

__all__ = ["LocalEnhancement"]


class LocalEnhancement(Convolution):
    """A depthwise convolution of values, zero-padded at the border of the piece of the grid that it is given.

    Args:
        dim: Channels.
        rank: Grid axes.
        kernel: Size along each axis, odd.
    """

    def __init__(self, dim: int, *, rank: int, kernel: int = 3) -> None:
        super().__init__(dim, dim, rank=rank, kernel=kernel, groups=dim)
