"""The multi-axis gated perceptron as a loop over tokens: who is in my group, and at which place."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional

Place = tuple[int, ...]


def number(place: Place, size: Place) -> int:
    """Row-major number of a place in a group."""
    found = 0
    for at, full in zip(place, size, strict=True):
        found = found * full + at
    return found


def group_and_place(token: Place, grid: Place, size: Place, layout: str) -> tuple[Place, Place]:
    if layout == "block":
        return tuple(t // s for t, s in zip(token, size, strict=True)), tuple(
            t % s for t, s in zip(token, size, strict=True)
        )
    apart = [-(-full // s) for full, s in zip(grid, size, strict=True)]
    return tuple(t % a for t, a in zip(token, apart, strict=True)), tuple(
        t // a for t, a in zip(token, apart, strict=True)
    )


def gated(module: torch.nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    grid, along = tuple(x.shape[1:-1]), module.along
    u, v = functional.gelu(module.expand(module.norm(x)), approximate="tanh").chunk(2, -1)
    v = module.gate_norm(v)
    tokens = list(itertools.product(*map(range, grid)))
    seats = {token: group_and_place(token, grid, along.size, along.layout) for token in tokens}
    mixed = torch.zeros_like(v)
    for row in range(len(x)):
        for token in tokens:
            group, place = seats[token]
            mine = number(place, along.size)
            for other in tokens:
                if seats[other][0] == group and mask[row][other]:
                    mixed[row][token] += along.weight[mine, number(seats[other][1], along.size)] * v[row][other]
            if along.bias is not None:
                mixed[row][token] += along.bias[mine]
    return x + module.contract(u * (mixed + 1))


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
    x = x.masked_fill(~mask[..., None], 0.0)
    coarse, fine = functional.gelu(module.expand(module.norm(x)), approximate="tanh").chunk(2, -1)
    both = torch.cat([gated(module.grid, coarse, mask), gated(module.block, fine, mask)], -1)
    return (x + module.contract(both)).masked_fill(~mask[..., None], 0.0)
