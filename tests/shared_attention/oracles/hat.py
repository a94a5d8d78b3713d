"""Hybrid attention as a sum: windows query by query, and the convolutions tap by tap."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor
from torch.nn import functional


def windows(module: torch.nn.Module, x: Tensor, real: Tensor) -> Tensor:
    grid = x.shape[:-1]
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, -1)).unbind(-3)
    table = module.position.table.view(*(2 * size - 1 for size in module.window), module.heads)

    def window_of(place: tuple[int, ...]) -> tuple[int, ...]:
        sizes = zip(place, grid, module.window, module.shift, strict=True)
        return tuple(0 if size <= full else (at - step) // full for at, size, full, step in sizes)

    out = torch.zeros_like(x)
    for place in itertools.product(*map(range, grid)):
        seen = [other for other in map(tuple, real.nonzero().tolist()) if window_of(other) == window_of(place)]
        if not seen:
            continue
        logits = []
        for other in seen:
            apart = tuple(a - b + size - 1 for a, b, size in zip(place, other, module.window, strict=True))
            logits.append((q[place] * k[other]).sum(-1) * module.head_dim**-0.5 + table[apart])
        weights = torch.stack(logits).softmax(0)
        out[place] = (weights[..., None] * torch.stack([v[other] for other in seen])).sum(0).flatten()
    return module.proj(out)


def convolved(convolution: torch.nn.Module, x: Tensor, real: Tensor) -> Tensor:
    """Each tap of a kernel of three shifts the grid by one."""
    axes = x.ndim - 1
    padded = functional.pad(x.masked_fill(~real.unsqueeze(-1), 0.0), (0, 0, *[1, 1] * axes))
    total = convolution.conv.bias.expand(*x.shape[:-1], -1)
    for tap in itertools.product(range(3), repeat=axes):
        moved = padded[tuple(slice(step, step + size) for step, size in zip(tap, x.shape, strict=False))]
        total = total + moved @ convolution.conv.weight[(slice(None), slice(None), *tap)].T
    return total.masked_fill(~real.unsqueeze(-1), 0.0)


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    part = module.convolutions
    for row in range(len(x)):
        real = torch.ones(x.shape[1:-1], dtype=torch.bool) if mask is None else mask[row]
        near = convolved(part.second, functional.gelu(convolved(part.first, x[row], real)), real)
        weight = part.excite(part.squeeze(near[real].mean(0)).relu()).sigmoid()
        both = windows(module.attention, x[row], real) + module.weight * near * weight
        out[row] = both.masked_fill(~real.unsqueeze(-1), 0.0)
    return out
