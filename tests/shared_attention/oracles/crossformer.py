"""Long and short distance attention as a loop over queries: who is in my group, how far apart are we in it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def place_of(module: torch.nn.Module, place: tuple[int, ...], grid: tuple[int, ...]) -> tuple[tuple, tuple]:
    """Which group a token is in, and where in it."""
    group, inside = [], []
    for axis, (at, size, full) in enumerate(zip(place, grid, module.window, strict=True)):
        window = min(size, full)
        step = 1
        if module.distance == "long":
            step = -(-size // window) if module.interval is None else module.interval[axis]
        region = window * step
        first = (-size % region) // 2 if module.centred else 0
        group += [(at + first) // region, (at + first) % step]
        inside.append((at + first) % region // step)
    return tuple(group), tuple(inside)


def bordered(module: torch.nn.Module, x: Tensor) -> Tensor:
    """Tokens of zeros at the end of each axis until regions divide it."""
    grid = x.shape[1:-1]
    whole = []
    for axis, (size, full) in enumerate(zip(grid, module.window, strict=True)):
        window = min(size, full)
        region = window
        if module.distance == "long":
            region *= -(-size // window) if module.interval is None else module.interval[axis]
        whole.append(-(-size // region) * region)
    out = x.new_zeros(len(x), *whole, x.shape[-1])
    out[(slice(None), *map(slice, grid))] = x
    return out


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    if module.border == "zeros":
        assert not module.centred
        x = x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)
        out = attended(module, bordered(module, x), None, grid)[(slice(None), *map(slice, grid))]
    else:
        out = attended(module, x, mask, grid)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)


def attended(module: torch.nn.Module, x: Tensor, mask: Tensor | None, grid: tuple[int, ...]) -> Tensor:
    places = {place: place_of(module, place, grid) for place in itertools.product(*map(range, x.shape[1:-1]))}
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim)).unbind(-3)
    out = torch.zeros_like(x)
    for row, (place, (group, at)) in itertools.product(range(len(x)), places.items()):
        seen = {
            other: there
            for other, (same, there) in places.items()
            if same == group and (mask is None or mask[row][other])
        }
        if not seen:
            continue
        logits = []
        for other, there in seen.items():
            apart = torch.tensor([a - b for a, b in zip(at, there, strict=True)], dtype=x.dtype)
            bias = module.position.layers(module.position.first(apart))
            logits.append((q[row][place] * k[row][other]).sum(-1) * module.head_dim**-0.5 + bias)
        weights = torch.stack(logits).softmax(0)  # (n, H)
        values = torch.stack([v[row][other] for other in seen])  # (n, H, D)
        out[row][place] = (weights[..., None] * values).sum(0).flatten()
    return module.proj(out)
