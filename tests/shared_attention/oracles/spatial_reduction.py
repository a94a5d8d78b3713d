"""Spatial-reduction attention as a loop over patches, heads and queries."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    ratio = module.coarser.ratio
    weight, bias = module.coarser.reduce.conv.weight, module.coarser.reduce.conv.bias
    counts = [max(size // part, 1) for size, part in zip(grid, ratio, strict=True)]
    x = x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)
    out = torch.zeros_like(x)
    for row in range(len(x)):
        tokens = []
        for patch in itertools.product(*map(range, counts)):
            total, held = bias, False
            for tap in itertools.product(*map(range, ratio)):
                place = tuple(at * part + step for at, part, step in zip(patch, ratio, tap, strict=True))
                if all(at < size for at, size in zip(place, grid, strict=True)):
                    total = total + weight[(slice(None), slice(None), *tap)] @ x[row][place]
                    held = held or mask is None or bool(mask[row][place])
            if held:
                tokens.append(module.coarser.norm(total))
        if not tokens:
            continue
        k, v = module.kv(torch.stack(tokens)).chunk(2, -1)
        q = module.q(x[row])
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            weights = (q[..., part] @ k[:, part].T / module.head_dim**0.5).softmax(-1)
            out[row][..., part] = weights @ v[:, part]
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
