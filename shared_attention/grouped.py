"""Attention inside groups of a grid's tokens: windows, shifted windows, tokens that lie apart.

A mechanism of this kind says how the grid is cut and which bias its logits get; the rest is shared:

>>> import torch
>>> class Blocks(GroupedAttention):
...     '''Attention in blocks of two by two.'''
...     def mix(self, x, context, mask, context_mask):
...         return self.in_groups(x, mask, size=(2, 2))
>>> Blocks(8, rank=2, heads=2)(torch.zeros(1, 5, 4, 8)).shape  # (B, *S, C), padded to 6 x 4 inside
torch.Size([1, 5, 4, 8])
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.grids import (
    crop,
    merge_dilated,
    pad_to_multiple,
    partition_dilated,
    roll,
    shift_mask,
)

__all__ = ["Border", "GroupedAttention", "Shift", "shift_of", "shrunk"]

Border = Literal["hidden", "zeros"]
Shift = int | tuple[int, ...] | Literal["half"]


def shift_of(window: Sequence[int], shift: Shift) -> tuple[int, ...]:
    """How far windows are shifted along each axis.

    Raises:
        ValueError: The shift has another number of axes or is not below the window.
    """
    if shift == "half":
        return tuple(size // 2 for size in window)
    steps = per_axis("shift", shift, len(window), minimum=0)
    if any(step >= size for step, size in zip(steps, window, strict=True)):
        raise ValueError(f"shift {steps} is not below the window {tuple(window)}")
    return steps


def shrunk(grid: Sequence[int], window: Sequence[int], shift: Sequence[int]) -> tuple[tuple[int, ...], list[int]]:
    """Window and shift as they are on a grid: along an axis that one window covers it is the axis, and not shifted."""
    small = tuple(min(pair) for pair in zip(grid, window, strict=True))
    return small, [0 if size <= full else step for size, full, step in zip(grid, window, shift, strict=True)]


class GroupedAttention(TokenMixer):
    """Queries, keys and values of all heads in one layer `qkv`, what comes out of the groups through `proj`.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self, dim: int, *, rank: int, heads: int | None = None, qkv_bias: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def in_groups(
        self,
        x: Tensor,
        mask: Tensor | None,
        *,
        size: Sequence[int],
        step: Sequence[int] | None = None,
        shift: Sequence[int] | None = None,
        bias: Tensor | None = None,
        border: Border = "hidden",
        centred: bool = False,
    ) -> Tensor:
        """Cut the grid, attend inside each group, put it together again.

        Args:
            x: `(B, *S, C)`, padded tokens zero.
            mask: bool `(B, *S)`, True for a real token.
            size: Tokens of a group along each axis.
            step: How far apart they lie along each axis; neighbours by default.
            shift: How far the groups are shifted along each axis; only for neighbours.
            bias: `(H, n, n)`, added to the logits.
            border: Whether padded tokens are hidden, or are tokens of zeros that are seen.
            centred: Whether a grid that the groups do not divide is padded on both sides.

        Returns:
            `(B, *S, C)`.
        """
        grid = x.shape[1:-1]
        step = [1] * len(grid) if step is None else step
        shift = [0] * len(grid) if shift is None else shift
        x, mask = pad_to_multiple(x, [a * b for a, b in zip(size, step, strict=True)], mask, centred=centred)
        padded = x.shape[1:-1]
        back = [-one for one in shift]
        visible = None
        if mask is not None and border == "hidden":
            visible = partition_dilated(roll(mask.unsqueeze(-1), back), size, step)  # (B, G, n, 1)
            visible = visible.squeeze(-1)[:, :, None, None]  # (B, G, 1, 1, n)
        if any(shift):
            together = shift_mask(padded, size, shift, x.device)[:, None]  # (G, 1, n, n)
            if visible is not None:
                visible = visible & together
            else:  # each token sees itself: added to the bias it is cheaper than as a mask, whose rows may be empty
                apart = torch.zeros(together.shape, dtype=x.dtype, device=x.device).masked_fill(~together, -math.inf)
                bias = apart if bias is None else bias + apart
        groups = partition_dilated(roll(x, back), size, step)  # (B, G, n, C)
        out = self.attend_windows(groups, mask=visible, bias=bias)
        return crop(roll(merge_dilated(out, size, step, padded), shift), grid, centred=centred)

    def attend_windows(self, windows: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Attention inside each window.

        Args:
            windows: `(B, G, n, C)`.
            mask: bool, broadcastable to `(B, G, H, n, n)`, True where a token may see another.
            bias: Added to the logits, broadcastable likewise.

        Returns:
            `(B, G, n, C)`.
        """
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, G, H, n, D) each
        out = attend(q, k, v, mask=mask, bias=bias, dropout=self.dropout if self.training else 0.0)
        return self.proj(out.transpose(2, 3).flatten(3))
