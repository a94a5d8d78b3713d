"""3D deformable attention as loops: a convolution by its taps, linear sampling by corners, one query after another."""

from __future__ import annotations

from itertools import product
from math import floor

import torch
from torch import Tensor
from torch.nn import functional


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = tuple(x.shape[1:-1])
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = torch.ones(grid, dtype=torch.bool) if mask is None else mask[row]
        tokens = torch.where(real.unsqueeze(-1), x[row], 0.0)
        q = torch.where(real.unsqueeze(-1), module.q(tokens), 0.0)
        keys = [found for place in _points(module, q, grid) if (found := _sampled(tokens, real, place)) is not None]
        for at in product(*(range(size) for size in grid)):
            if not real[at] or not keys:
                continue
            k, v = module.kv(torch.stack(keys)).chunk(2, -1)  # (K, C) each
            heads = []
            for head in range(module.heads):
                part = slice(head * module.head_dim, (head + 1) * module.head_dim)
                weights = (k[:, part] @ module.q(tokens[at])[part] / module.head_dim**0.5).softmax(0)
                heads.append(weights @ v[:, part])
            out[row][at] = module.proj(torch.cat(heads))
    return out


def _points(module: torch.nn.Module, q: Tensor, grid: tuple[int, ...]) -> list[Tensor]:
    weight, bias = module.spread.conv.weight, module.spread.conv.bias  # (C, 1, *kernel)
    reach = weight.shape[2] // 2
    points = []
    for at in product(*(range(0, size, step) for size, step in zip(grid, module.stride, strict=True))):
        total = bias.clone()
        for tap in product(range(weight.shape[2]), repeat=len(grid)):
            place = tuple(one + shift - reach for one, shift in zip(at, tap, strict=True))
            if all(0 <= one < size for one, size in zip(place, grid, strict=True)):
                total = total + weight[(slice(None), 0, *tap)] * q[place]
        hidden = functional.gelu(module.norm(total))
        points.append(torch.tensor(at, dtype=q.dtype) + module.reach * module.offset(hidden).tanh())
    return points


def _sampled(tokens: Tensor, real: Tensor, place: Tensor) -> Tensor | None:
    """Linear between the neighbours that are real; the border goes on outside."""
    grid = tokens.shape[:-1]
    clamped = [min(max(one, 0.0), size - 1.0) for one, size in zip(place.tolist(), grid, strict=True)]
    total, share = torch.zeros(tokens.shape[-1], dtype=tokens.dtype), 0.0
    for corner in product((0, 1), repeat=len(grid)):
        at = tuple(min(floor(one) + up, size - 1) for one, up, size in zip(clamped, corner, grid, strict=True))
        weight = 1.0
        for one, up in zip(clamped, corner, strict=True):
            weight *= one - floor(one) if up else 1 - (one - floor(one))
        if real[at]:
            total, share = total + weight * tokens[at], share + weight
    return total / share if share > 1e-6 else None
