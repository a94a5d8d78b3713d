"""Where a token is, as parts that a mechanism is made of: biases of logits by offset, and rotations of queries and
keys.

>>> import torch
>>> table = RelativeTable((3, 4), heads=2)
>>> table().shape  # (H, n, n), to be added to logits (..., H, n, n)
torch.Size([2, 12, 12])
>>> table((3, 2)).shape  # for a smaller window the same offsets
torch.Size([2, 6, 6])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

__all__ = ["RelativeTable", "coordinates", "offsets"]


def coordinates(grid: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Place of each token of a grid in row-major order: int64 `(n, rank)`."""
    axes = [torch.arange(size, device=device) for size in grid]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, -2)


def offsets(window: Sequence[int], device: torch.device | None = None) -> Tensor:
    """Place of the query less place of the key, for each pair of a window: int64 `(n, n, rank)`."""
    places = coordinates(window, device)
    return places[:, None] - places[None, :]


class RelativeTable(nn.Module):
    """A learned bias for each head and each offset between two tokens of a window (Swin, for any number of axes).

    Args:
        window: Largest window, one number an axis.
        heads: Number of heads `H`.
    """

    def __init__(self, window: Sequence[int], heads: int) -> None:
        super().__init__()
        self.window = tuple(window)
        self.table = nn.Parameter(torch.empty(prod(2 * size - 1 for size in self.window), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        index = torch.zeros(prod(self.window), prod(self.window), dtype=torch.int64)
        for axis, size in enumerate(self.window):
            index = index * (2 * size - 1) + offsets(self.window)[..., axis] + size - 1
        self.index: Tensor
        self.register_buffer("index", index, persistent=False)  # (n, n)

    def forward(self, window: Sequence[int] | None = None) -> Tensor:
        """The bias `(H, n, n)` of a window, the largest by default, query first."""
        index = self.index
        if window is not None and tuple(window) != self.window:
            both = index.view(*self.window, *self.window)
            for axis, size in enumerate((*window, *window)):
                both = both.narrow(axis, 0, size)
            index = both.reshape(prod(window), prod(window))
        return self.table[index].permute(2, 0, 1)
