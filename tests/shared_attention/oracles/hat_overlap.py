"""Overlapping cross-attention as a loop over queries, each with the places of its larger window."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = torch.tensor(x.shape[1:-1])
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim)).unbind(-3)
    spans = [2 * (size + around) - 1 for size, around in zip(module.window, module.halo, strict=True)]
    table = module.position.table.view(*spans, module.heads)
    middle = torch.tensor([size + around - 1 for size, around in zip(module.window, module.halo, strict=True)])
    out = torch.zeros_like(x)
    for row, place in itertools.product(range(len(x)), itertools.product(*map(range, grid))):
        window = [min(pair) for pair in zip(x.shape[1:-1], module.window, strict=True)]
        start = [at // size * size for at, size in zip(place, window, strict=True)]
        reach = [torch.arange(at - h, at + size + h) for at, size, h in zip(start, window, module.halo, strict=True)]
        others = torch.cartesian_prod(*reach).view(-1, len(grid))  # (m, rank)
        real = ((others >= 0) & (others < grid)).all(-1)
        if mask is not None:
            real = real & mask[row][tuple(others.clamp(min=0).minimum(grid - 1).T)]
        keys = torch.zeros(len(others), module.heads, module.head_dim, dtype=x.dtype)
        values = keys.clone()
        keys[real], values[real] = (part[row][tuple(others[real].T)] for part in (k, v))
        bias = table[tuple((others - torch.tensor(place) + middle).T)]  # (m, H)
        logits = (q[row][place] * keys).sum(-1) * module.head_dim**-0.5 + bias
        if module.border == "hidden":
            logits[~real] = -torch.inf
        if logits.isfinite().any():
            out[row][place] = (logits.softmax(0)[..., None] * values).sum(0).flatten()
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
