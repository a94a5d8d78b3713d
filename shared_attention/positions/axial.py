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

    def forward(self, q: Tensor, queries: Sequence[int] | None = None, keys: Sequence[int] | None = None) -> Tensor:
        """Logits `(..., n, m)` of queries `(..., n, D)`, n and m row-major over the two blocks; the largest by default.

        A smaller block of keys begins at the same offset from its queries as the largest.
        """
        keys = self.keys if keys is None else tuple(keys)
        axes = len(keys)
        parts = self._along_axes(q, queries, keys)
        total = sum(
            part.unflatten(-1, [size if one == axis else 1 for one in range(axes)])
            for axis, (part, size) in enumerate(zip(parts, keys, strict=True))
        )
        return total.flatten(-axes)

    def _along_axes(
        self, q: Tensor, queries: Sequence[int] | None = None, keys: Sequence[int] | None = None
    ) -> list[Tensor]:
        """The parts of the logits that the axes give: `(..., n, size of the block of keys along the axis)` each."""
        queries = self.queries if queries is None else tuple(queries)
        keys = self.keys if keys is None else tuple(keys)
        axes = len(queries)
        block = q.unflatten(-2, queries)  # (..., *queries, D)
        parts = []
        for axis, (table, count, size, full) in enumerate(zip(self.tables, queries, keys, self.keys, strict=True)):
            index = torch.arange(size, device=q.device) - torch.arange(count, device=q.device)[:, None] + full - 1
            logits = torch.einsum("...qd,qkd->...qk", block.movedim(axis - axes - 1, -2), table[index])
            parts.append(logits.movedim(-2, axis - axes - 1).flatten(-axes - 1, -2))
        return parts
