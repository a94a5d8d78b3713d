"""Biases by offset that a small network computes, so that they carry over to other windows.

>>> ContinuousBias((4, 4), heads=2)().shape  # (H, n, n)
torch.Size([2, 16, 16])
>>> DynamicBias(32, rank=3, heads=2)((2, 2, 3)).shape
torch.Size([2, 12, 12])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log2

import torch
from torch import Tensor, nn

from shared_attention.positions.places import offsets, pair_index
from shared_attention.positions.relative import smaller_window

__all__ = ["ContinuousBias", "DynamicBias"]


class ContinuousBias(nn.Module):
    """Log-spaced continuous position bias (Swin v2): 16 times the sigmoid of a network of log-spaced offsets.

    Args:
        window: Largest window, one number an axis.
        heads: Number of heads `H`.
        trained: Window that the weights were trained with, which sets the unit of an offset; the largest by default.
        hidden: Width of the network.
    """

    def __init__(
        self, window: Sequence[int], heads: int, *, trained: Sequence[int] | None = None, hidden: int = 512
    ) -> None:
        super().__init__()
        self.window = tuple(window)
        last = nn.Linear(hidden, heads, bias=False)
        self.network = nn.Sequential(nn.Linear(len(self.window), hidden), nn.ReLU(), last)
        self.apart: Tensor
        self.unit: Tensor
        self.index: Tensor
        self.register_buffer("apart", offsets(self.window), persistent=False)  # (L, rank)
        self.register_buffer("unit", torch.tensor([max(size - 1, 1) for size in trained or window]), persistent=False)
        self.register_buffer("index", pair_index(self.window), persistent=False)  # (n, n)

    def forward(self, window: Sequence[int] | None = None) -> Tensor:
        """The bias `(H, n, n)` of a window, the largest by default."""
        index = smaller_window(self.index, self.window, self.window if window is None else window)
        kind = next(self.network.parameters()).dtype
        apart = self.apart.to(torch.promote_types(kind, torch.float32)) / self.unit * 8
        apart = apart.sign() * (apart.abs() + 1).log2() / log2(8)  # (L, rank)
        values = self.network(apart.to(kind))  # (L, H)
        return 16 * values[index].permute(2, 0, 1).sigmoid()


class DynamicBias(nn.Module):
    """Dynamic position bias (CrossFormer): a network of plain offsets, three times LayerNorm, ReLU and a linear layer.

    Args:
        dim: Channels of the mechanism.
        rank: Grid axes.
        heads: Number of heads `H`.
        hidden: Width of the network; a sixteenth of the channels by default, at least 8 (below 3 the LayerNorms leave
            nothing of an offset but its sign).
    """

    def __init__(self, dim: int, *, rank: int, heads: int, hidden: int | None = None) -> None:
        super().__init__()
        width = max(dim // 16, 8) if hidden is None else hidden
        self.first = nn.Linear(rank, width)
        self.layers = nn.Sequential(
            *(nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, out)) for out in (width, width, heads))
        )

    def forward(self, window: Sequence[int]) -> Tensor:
        """The bias `(H, n, n)` of a window."""
        apart = offsets(window, self.first.weight.device).to(self.first.weight.dtype)  # (L, rank)
        values = self.layers(self.first(apart))  # (L, H)
        return values[pair_index(window, self.first.weight.device)].permute(2, 0, 1)
