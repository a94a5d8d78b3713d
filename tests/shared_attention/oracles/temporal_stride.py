"""Temporal stride attention, one query and one head after another."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = tuple(x.shape[1:-1])
    stride = min(module.stride, grid[0])
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = torch.ones(grid, dtype=torch.bool) if mask is None else mask[row]
        places = [at for at in product(*map(range, grid)) if real[at]]
        for at in places:
            heads = []
            for head in range(module.heads):
                part = slice(head * module.head_dim, (head + 1) * module.head_dim)
                seen = [x[row][one] for one in places if one[0] % stride == head % stride]
                if not seen:
                    heads.append(torch.zeros(module.head_dim, dtype=x.dtype))
                    continue
                k, v = (values[:, part] for values in module.kv(torch.stack(seen)).chunk(2, -1))
                weights = (k @ module.q(x[row][at])[part] / module.head_dim**0.5).softmax(0)
                heads.append(weights @ v)
            out[row][at] = module.proj(torch.cat(heads))
    return out
