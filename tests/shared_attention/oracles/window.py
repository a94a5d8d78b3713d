"""Window attention as a loop over queries: who shares my window, how far apart are we."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def window_of(place: tuple[int, ...], grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> tuple:
    """The window that a token falls in; along a shifted axis the first and the last tokens are windows cut short."""
    found = []
    for at, size, full, step in zip(place, grid, window, shift, strict=True):
        found.append(0 if size <= full else (at - step) // full)
    return tuple(found)


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    qkv = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim))
    table = module.position.table.view(*(2 * size - 1 for size in module.window), module.heads)
    out = torch.zeros_like(x)
    for row in range(len(x)):
        for place in places:
            mine = window_of(place, grid, module.window, module.shift)
            seen = [
                other
                for other in places
                if window_of(other, grid, module.window, module.shift) == mine and (mask is None or mask[row][other])
            ]
            if not seen:
                continue
            q = qkv[row][place][0]  # (H, D)
            logits = []
            for other in seen:
                apart = tuple(a - b + size - 1 for a, b, size in zip(place, other, module.window, strict=True))
                logits.append((q * qkv[row][other][1]).sum(-1) * module.head_dim**-0.5 + table[apart])
            weights = torch.stack(logits).softmax(0)  # (n, H)
            values = torch.stack([qkv[row][other][2] for other in seen])  # (n, H, D)
            out[row][place] = (weights[..., None] * values).sum(0).flatten()
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
