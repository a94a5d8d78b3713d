"""Logits of a query against a learned vector for each offset along each axis, summed over the axes (HaloNet).

>>> import torch
>>> part = AxialLogits((2, 2), (4, 4), head_dim=8)
>>> part(torch.zeros(3, 4, 8)).shape  # queries (..., n, D) to logits (..., n, m)
torch.Size([3, 4, 16])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["AxialLogits"]


class AxialLogits(nn.Module):
    """One table an axis, with a vector for each offset of a key from a query.

    Args:
        queries: Size of the block of queries along each axis.
        keys: Size of the block of keys along each axis.
        head_dim: Channels `D` of one head.
    """

    def __init__(self, queries: Sequence[int], keys: Sequence[int], *, head_dim: int) -> None:
        super().__init__()
        self.queries, self.keys = tuple(queries), tuple(keys)
        self.tables = nn.ParameterList(
            [nn.Parameter(torch.randn(2 * size - 1, head_dim) * head_dim**-0.5) for size in self.keys]
        )

    def forward(self, q: Tensor) -> Tensor:
        """Logits `(..., n, m)` of queries `(..., n, D)`, n and m row-major over the two blocks."""
        axes = len(self.queries)
        block = q.unflatten(-2, self.queries)  # (..., *queries, D)
        total = q.new_zeros(1)
        for axis, (table, count, size) in enumerate(zip(self.tables, self.queries, self.keys, strict=True)):
            index = torch.arange(size, device=q.device) - torch.arange(count, device=q.device)[:, None] + size - 1
            logits = torch.einsum("...qd,qkd->...qk", block.movedim(axis - axes - 1, -2), table[index])
            logits = logits.movedim(-2, axis - axes - 1)  # (..., *queries, keys of this axis)
            total = total + logits.unflatten(-1, [size if one == axis else 1 for one in range(axes)])
        return total.expand(*block.shape[:-1], *self.keys).flatten(-axes).flatten(-axes - 1, -2)
