"""Local joint stride attention, one query and one head after another."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = tuple(x.shape[1:-1])
    stride = min(module.stride, grid[-1])
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = torch.ones(grid, dtype=torch.bool) if mask is None else mask[row]
        for at in product(*map(range, grid)):
            if not real[at]:
                continue
            group = [(*at[:-1], joint) for joint in range(at[-1] % stride, grid[-1], stride)]
            seen = module.qkv(torch.stack([x[row][one] for one in group if real[one]]))
            query = module.qkv(x[row][at])
            heads = []
            for head in range(module.heads):
                first = head * module.head_dim
                q = query[first : first + module.head_dim]
                k, v = (seen[:, first + part * module.dim :][:, : module.head_dim] for part in (1, 2))
                heads.append((k @ q / module.head_dim**0.5).softmax(0) @ v)
            out[row][at] = module.proj(torch.cat(heads))
    return out
