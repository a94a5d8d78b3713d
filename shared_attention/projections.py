"""Heads of projected tokens, and back to the grid.

>>> import torch
>>> q = split_heads(torch.zeros(2, 5, 6, 32), 4)
>>> q.shape  # (B, H, N, D)
torch.Size([2, 4, 30, 8])
>>> join_heads(q, (5, 6)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["flat_mask", "join_heads", "project_mixed", "split_heads"]


def split_heads(x: Tensor, heads: int) -> Tensor:
    """`(B, *S, C)` as `(B, H, N, D)`, a head being neighbouring channels."""
    return x.flatten(1, -2).unflatten(-1, (heads, -1)).transpose(1, 2)


def join_heads(x: Tensor, grid: Sequence[int]) -> Tensor:
    """`(B, H, N, D)` back to `(B, *grid, C)`."""
    return x.transpose(1, 2).flatten(2).unflatten(1, tuple(grid))


def flat_mask(mask: Tensor | None) -> Tensor | None:
    """bool `(B, *S)` as `(B, 1, 1, N)`, which keys each head and query may see."""
    return None if mask is None else mask.flatten(1)[:, None, None]


def project_mixed(values: Tensor, maps: Tensor, layer: nn.Linear) -> Tensor:
    """`layer` of values whose channels were mixed inside each head, without the mixed values in between.

    The maps go into the weights, once a sample, so all tokens are multiplied once instead of twice and are never
    copied by heads.

    Args:
        values: `(B, N, C)`, a head being neighbouring channels.
        maps: `(B, H, D, D)`; row d holds how much of each channel goes into channel d of the head.
        layer: From `C` channels to `E`, with a bias.

    Returns:
        `(B, N, E)`.
    """
    weight = layer.weight.unflatten(-1, maps.shape[1:3]).transpose(0, 1) @ maps  # (B, H, E, D)
    return torch.baddbmm(layer.bias, values, weight.transpose(-2, -1).flatten(1, 2))
