"""Halo attention as a loop over queries, each with the places around its block."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    part = module.attention
    grid = torch.tensor(x.shape[1:-1])
    q = part.q(x).unflatten(-1, (part.heads, part.head_dim))
    kv = part.kv(x).unflatten(-1, (part.heads, -1))
    out = torch.zeros_like(x)
    for row, place in itertools.product(range(len(x)), itertools.product(*map(range, grid))):
        block = [min(pair) for pair in zip(x.shape[1:-1], part.block, strict=True)]
        start = [at // size * size for at, size in zip(place, block, strict=True)]
        reach = [
            torch.arange(at - around, at + size + around)
            for at, size, around in zip(start, block, part.halo, strict=True)
        ]
        others = torch.cartesian_prod(*reach).view(-1, len(grid))  # (m, rank)
        real = ((others >= 0) & (others < grid)).all(-1)
        if mask is not None:
            real = real & mask[row][tuple(others.clamp(min=0).minimum(grid - 1).T)]
        keys = torch.zeros(len(others), *kv.shape[-2:], dtype=x.dtype)
        keys[real] = kv[row][tuple(others[real].T)]
        where = torch.zeros(len(others), part.head_dim, dtype=x.dtype)
        for axis, table in enumerate(part.position.tables):
            first = 3 * part.halo[axis] + part.block[axis] - 1  # the row of the query's own place
            where += table[others[:, axis] - place[axis] + first]
        k, v = keys.split([part.head_dim, part.value_dim], -1)  # (m, H, D), (m, H, E / H)
        logits = (q[row][place] * (k * part.head_dim**-0.5 + where[:, None])).sum(-1)  # (m, H)
        if part.border == "hidden":
            logits[~real] = -torch.inf
        if logits.isfinite().any():
            out[row][place] = (logits.softmax(0)[..., None] * v).sum(0).flatten()
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
