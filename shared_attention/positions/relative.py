"""A learned bias for each head and each offset between two tokens of a window, for any number of axes (Swin).

>>> table = RelativeTable((3, 4), heads=2)
>>> table().shape  # (H, n, n), to be added to logits (..., H, n, n)
torch.Size([2, 12, 12])
>>> table((3, 2)).shape  # a smaller window has the same offsets
torch.Size([2, 6, 6])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor, nn

from shared_attention.positions.places import coordinates, pair_index

__all__ = ["HaloTable", "RelativeTable", "smaller_window"]


def smaller_window(index: Tensor, largest: Sequence[int], window: Sequence[int]) -> Tensor:
    """The part of a pair index `(n, n)` of the largest window that belongs to a smaller one."""
    if tuple(window) == tuple(largest):
        return index
    both = index.view(*largest, *largest)
    for axis, size in enumerate((*window, *window)):
        both = both.narrow(axis, 0, size)
    return both.reshape(prod(window), prod(window))


class RelativeTable(nn.Module):
    """A bias for each head and offset.

    Args:
        window: Largest window, one number an axis.
        heads: Number of heads `H`.
    """

    def __init__(self, window: Sequence[int], heads: int) -> None:
        super().__init__()
        self.window = tuple(window)
        self.table = nn.Parameter(torch.empty(prod(2 * size - 1 for size in self.window), heads))
        nn.init.trunc_normal_(self.table, std=0.02)
        self.index: Tensor
        self.register_buffer("index", pair_index(self.window), persistent=False)  # (n, n)

    def forward(self, window: Sequence[int] | None = None) -> Tensor:
        """The bias `(H, n, n)` of a window, the largest by default."""
        index = smaller_window(self.index, self.window, self.window if window is None else window)
        return self.table[index].permute(2, 0, 1)


class HaloTable(nn.Module):
    """A bias for each head and each offset of a key, in a block and around it, from a query in the block (HAT).

    Args:
        block: Largest block of queries, one number an axis.
        halo: How many tokens further the keys reach, on both sides of each axis.
        heads: Number of heads `H`.
    """

    def __init__(self, block: Sequence[int], halo: Sequence[int], heads: int) -> None:
        super().__init__()
        self.block, self.halo = tuple(block), tuple(halo)
        spans = [2 * (size + around) - 1 for size, around in zip(self.block, self.halo, strict=True)]
        self.table = nn.Parameter(torch.empty(prod(spans), heads))
        nn.init.trunc_normal_(self.table, std=0.02)

    def forward(self, block: Sequence[int] | None = None) -> Tensor:
        """The bias `(H, n, m)` of a block, the largest by default, m the tokens of the block and its halo."""
        block = self.block if block is None else tuple(block)
        device = self.table.device
        wide = [size + 2 * around for size, around in zip(block, self.halo, strict=True)]
        apart = coordinates(wide, device)[None] - coordinates(block, device)[:, None]  # (n, m, rank), key - query
        index = torch.zeros(apart.shape[:2], dtype=torch.int64, device=device)
        for axis, (size, around) in enumerate(zip(self.block, self.halo, strict=True)):
            index = index * (2 * (size + around) - 1) + apart[..., axis] + size - 1
        return self.table[index].permute(2, 0, 1)
