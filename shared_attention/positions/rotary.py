"""Rotation of queries and keys by their place, so that logits depend on offsets alone, on one to three axes (RoPE).

>>> import torch
>>> rotary = Rotary(8, rank=2)
>>> q = k = torch.ones(1, 1, 9, 8)  # (B, H, n, D) on a 3 x 3 grid
>>> logits = rotary(q, (3, 3)) @ rotary(k, (3, 3)).transpose(-2, -1)
>>> bool(torch.allclose(logits[0, 0, 0, 4], logits[0, 0, 4, 8]))  # both one step down and right
True
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared_attention.positions.places import coordinates

__all__ = ["Rotary"]


class Rotary(nn.Module):
    """Rotary position embedding; the channels of a head are split evenly over the axes, what is left over stays.

    Args:
        head_dim: Channels `D` of one head, at least `2 * rank`.
        rank: Grid axes.
        base: Wavelengths go from `2 * pi` to about `base * 2 * pi` tokens.
        interleaved: Rotate channels 0 and 1, 2 and 3, ... together, instead of the first and second half.
    """

    def __init__(self, head_dim: int, *, rank: int = 1, base: float = 10000.0, interleaved: bool = False) -> None:
        super().__init__()
        if head_dim < 2 * rank:
            raise ValueError(f"head_dim {head_dim} is below {2 * rank}, the least that {rank} axes can rotate")
        self.rank, self.base, self.interleaved = rank, base, interleaved
        self.width = 2 * (head_dim // (2 * rank))

    def forward(self, x: Tensor, places: Sequence[int] | Tensor) -> Tensor:
        """Rotate.

        Args:
            x: `(..., n, D)`, queries or keys.
            places: The grid whose row-major tokens these are, or their places `(n, rank)` (any leading axes before).
        """
        where = places if isinstance(places, Tensor) else coordinates(places, x.device)
        precise = torch.float64 if x.dtype == torch.float64 else torch.float32  # a rounded rate is far off far away
        steps = torch.arange(0, self.width, 2, device=x.device, dtype=precise)
        rates = self.base ** (-steps / self.width)
        parts = [
            self._rotated(part, where[..., axis, None] * rates)
            for axis, part in enumerate(x.split(self.width, -1)[: self.rank])
        ]
        return torch.cat([*parts, x[..., self.rank * self.width :]], -1)

    def _rotated(self, x: Tensor, angle: Tensor) -> Tensor:
        cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)  # (..., n, width / 2)
        if self.interleaved:
            real, imaginary = x.unflatten(-1, (-1, 2)).unbind(-1)
            return torch.stack([real * cos - imaginary * sin, real * sin + imaginary * cos], -1).flatten(-2)
        real, imaginary = x.chunk(2, -1)
        return torch.cat([real * cos - imaginary * sin, real * sin + imaginary * cos], -1)
