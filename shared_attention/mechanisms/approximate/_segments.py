"""Landmarks: means of segments of the tokens in row-major order.

>>> import torch
>>> segment_means(torch.arange(7.0)[None, :, None], 3).flatten()  # two, two and three tokens
tensor([0.5000, 2.5000, 5.0000])
>>> real = torch.tensor([[True, False, False, False, True, True, True]])
>>> segment_means(torch.arange(7.0)[None, :, None] * real[..., None], 3, real).flatten(), segments_real(real, 3)
(tensor([0., 0., 5.]), tensor([[ True, False,  True]]))
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["segment_means", "segments_real"]


def segment_means(x: Tensor, count: int, real: Tensor | None = None) -> Tensor:
    """Means of neighbouring tokens, of as even numbers as there can be, the longer segments last.

    Args:
        x: `(..., N, D)`, zero at padded tokens.
        count: Segments, at most N.
        real: bool `(..., N)`, True for a real token.

    Returns:
        `(..., count, D)`; zeros for a segment without a real token.
    """
    if real is None:
        return torch.cat([part.mean(-2) for part in _segments(x, -2, count)], -2)
    numbers = torch.cat([part.sum(-1) for part in _segments(real, -1, count)], -1)
    sums = torch.cat([part.sum(-2) for part in _segments(x, -2, count)], -2)
    return sums / numbers.clamp(min=1).unsqueeze(-1).to(x.dtype)


def segments_real(real: Tensor, count: int) -> Tensor:
    """bool `(..., count)`: whether a segment of `(..., N)` holds a real token."""
    return torch.cat([part.any(-1) for part in _segments(real, -1, count)], -1)


def _segments(x: Tensor, axis: int, count: int) -> list[Tensor]:
    """The shorter segments and the longer ones, each with the axis cut into segments and tokens."""
    size, longer = divmod(x.shape[axis], count)
    shorter = count - longer
    parts = [x.narrow(axis, 0, shorter * size).unflatten(axis, (shorter, size))]
    if longer:
        parts.append(x.narrow(axis, shorter * size, longer * (size + 1)).unflatten(axis, (longer, size + 1)))
    return parts
