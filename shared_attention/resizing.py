"""Maps that belong to a fixed grid, resized to the grid at hand.

>>> import torch
>>> resized(torch.arange(4.0).view(1, 1, 4), (2,)).flatten()
tensor([0.5000, 2.5000])
>>> resized(torch.zeros(2, 3, 7, 7), (5, 9)).shape
torch.Size([2, 3, 5, 9])
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional

__all__ = ["resized"]

_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


def resized(x: Tensor, grid: Sequence[int]) -> Tensor:
    """`(A, B, *S)` to `(A, B, *grid)`, linearly between the middles of cells; `x` itself where it fits."""
    if x.shape[2:] == tuple(grid):
        return x
    return functional.interpolate(x, tuple(grid), mode=_MODES[len(grid)])
