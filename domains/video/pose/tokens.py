"""Joint tokens from a feature map: by the published pooling, or by each joint looking for itself.

maps (B, C, h, w) → tokens (B, K, D) and where each token lies in the picture (B, K, 2), in [0, 1]
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared_attention.attend import attend

__all__ = ["JointTokens", "LookedTokens", "NormedLinear", "PooledTokens", "cell_centres", "cells_around"]

_GAIN = 0.01
_SMALLEST = 1e-12


class JointTokens(NamedTuple):
    """What became of a map.

    Attributes:
        tokens: `(B, K, D)`.
        places: `(B, K, 2)`, where each lies in the picture, x before y; 0 where it lies nowhere.
        looks: `(B, K, h, w)`, logits of where each looked, in training; None where nothing was looked at.
    """

    tokens: Tensor
    places: Tensor
    looks: Tensor | None = None


class NormedLinear(nn.Module):
    """`y = W x / ‖x‖₂ + b`: the regression layer of residual log-likelihood (Li et al., ICCV 2021).

    Args:
        inside: Channels in.
        outside: Channels out.
    """

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        nn.init.xavier_uniform_(self.linear.weight, gain=_GAIN)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, inside)` → `(B, outside)`."""
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp(min=_SMALLEST)
        scaled: Tensor = nn.functional.linear(x, self.linear.weight) / length + self.linear.bias
        return scaled


class PooledTokens(nn.Module):
    """The mean of the map, split into joint tokens, as published; tokens lie nowhere.

    Args:
        channels: Channels of the map.
        tokens: Joint tokens.
        dim: Channels of a token.
    """

    def __init__(self, channels: int, tokens: int, dim: int) -> None:
        super().__init__()
        self.tokens, self.dim = tokens, dim
        self.project = NormedLinear(channels, tokens * dim)

    def forward(self, maps: Tensor) -> JointTokens:
        """`(B, C, h, w)` → tokens that lie nowhere."""
        pooled = maps.float().mean((2, 3)).to(maps.dtype)  # (B, C)
        tokens = self.project(pooled).unflatten(-1, (self.tokens, self.dim))  # (B, K, D)
        return JointTokens(tokens, tokens.new_zeros(len(tokens), self.tokens, 2))


class LookedTokens(nn.Module):
    """Each token looks over the map with a query of its own, so that it keeps where it found what it looked for.

    Not part of the published network: its pooling gives up places, which few training pictures cannot teach again.
    A token that hesitates between a left and a right knee looks at both, and their mean is neither: served, its place
    is the mean around the cell that it looked at most.

    Args:
        channels: Channels of the map.
        tokens: Joint tokens.
        dim: Channels of a token.
        width: Channels of queries and keys.
        reach: Cells around the one looked at most that count for the place of a served token; None for all.
    """

    def __init__(self, channels: int, tokens: int, dim: int, *, width: int = 64, reach: int | None = None) -> None:
        super().__init__()
        self.reach = reach
        self.queries = nn.Parameter(torch.randn(tokens, width) * 0.2)
        self.norm = nn.LayerNorm(channels)
        self.keys = nn.Linear(channels, width)
        self.values = nn.Linear(channels, dim)

    def forward(self, maps: Tensor) -> JointTokens:
        """`(B, C, h, w)` → tokens, the place each looked at, and, in training, how it looked."""
        cells = self.norm(maps.flatten(2).transpose(1, 2))  # (B, N, C)
        places = cell_centres(maps.shape[2], maps.shape[3]).to(cells).expand(len(cells), -1, -1)  # (B, N, 2)
        keys, values = self.keys(cells), self.values(cells)  # (B, N, width), (B, N, D)
        queries = self.queries.to(cells).expand(len(cells), -1, -1)  # (B, K, width)
        found = attend(queries[:, None], keys[:, None], torch.cat([values, places], -1)[:, None])[:, 0]  # (B, K, D + 2)
        tokens, where = found[..., :-2], found[..., -2:]
        if not self.training and self.reach is None:
            return JointTokens(tokens, where)
        logits = queries @ keys.transpose(1, 2) / math.sqrt(keys.shape[-1])  # (B, K, N)
        if self.training:  # What is attended is not seen from outside, and learning wants to see it.
            return JointTokens(tokens, where, logits.unflatten(-1, maps.shape[2:]))
        near = cells_around(logits.argmax(-1), maps.shape[2], maps.shape[3], self.reach or 0)  # (B, K, N)
        return JointTokens(tokens, attend(queries[:, None], keys[:, None], places[:, None], mask=near[:, None])[:, 0])


def cells_around(cell: Tensor, height: int, width: int, reach: int) -> Tensor:
    """Which cells of a grid lie within `reach` rows and columns of one: numbers `(...)` → bool `(..., h · w)`."""
    numbers = torch.arange(height * width, device=cell.device)
    rows = (numbers // width - (cell // width)[..., None]).abs()
    columns = (numbers % width - (cell % width)[..., None]).abs()
    return (rows <= reach) & (columns <= reach)


def cell_centres(height: int, width: int) -> Tensor:
    """Centres of the cells of a grid in row-major order, `(height · width, 2)`: x and y in [0, 1]."""
    y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
    return torch.stack([x.flatten(), y.flatten()], -1)
