"""Places of tokens in a window and the offsets between them.

>>> coordinates((2, 2)).tolist()
[[0, 0], [0, 1], [1, 0], [1, 1]]
>>> pair_index((3,)).tolist()  # query - key, counted from -2
[[2, 1, 0], [3, 2, 1], [4, 3, 2]]
>>> offsets((2, 3)).shape  # each offset that two tokens of the window can have
torch.Size([15, 2])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["coordinates", "offsets", "pair_index"]


def coordinates(grid: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Place of each token of a grid in row-major order: int64 `(n, rank)`."""
    axes = [torch.arange(size, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def offsets(window: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Every offset of a query from a key in a window, row-major: int64 `(L, rank)`, L the product of `2 * size - 1`."""
    first = torch.tensor([size - 1 for size in window], device=device)
    return coordinates([2 * size - 1 for size in window], device) - first


def pair_index(window: Sequence[int], device: torch.device | None = None) -> Tensor:
    """For each query and key of a window the row of `offsets` with their offset: int64 `(n, n)`, query first."""
    places = coordinates(window, device)
    apart = places[:, None] - places[None, :]  # (n, n, rank)
    index = torch.zeros(apart.shape[:2], dtype=torch.int64, device=device)
    for axis, size in enumerate(window):
        index = index * (2 * size - 1) + apart[..., axis] + size - 1
    return index
