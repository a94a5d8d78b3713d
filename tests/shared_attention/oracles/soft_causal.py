"""Attention with a soft mask as a loop over heads and queries: a softmax over all, then the mask."""

from __future__ import annotations

import torch
from torch import Tensor


def turned(row: Tensor, base: float) -> Tensor:
    """`(N, H, D)` with channels 0 and 1, 2 and 3, ... rotated by the place."""
    out = row.clone()
    pairs = row.shape[-1] // 2
    for place in range(len(row)):
        for pair in range(pairs):
            angle = torch.tensor(place * base ** (-2 * pair / (2 * pairs)), dtype=row.dtype)
            first, second = row[place, :, 2 * pair], row[place, :, 2 * pair + 1]
            out[place, :, 2 * pair] = first * angle.cos() - second * angle.sin()
            out[place, :, 2 * pair + 1] = first * angle.sin() + second * angle.cos()
    return out


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    for row in range(len(x)):
        tokens = x[row].flatten(0, -2)
        real = torch.ones(len(tokens), dtype=torch.bool) if mask is None else mask[row].flatten()
        q, k, v = module.qkv(tokens).unflatten(-1, (3, module.heads, -1)).unbind(1)
        q, k = turned(q, 10000.0), turned(k, 10000.0)
        mixed = torch.zeros_like(q)
        for head in range(module.heads):
            for i in real.nonzero().flatten().tolist():
                seen = [j for j in range(len(tokens)) if real[j] and (j <= i or not module.causal)]
                weights = (k[seen, head] @ q[i, head] * q.shape[-1] ** -0.5).softmax(0)
                masked = [w if j <= i else w * module.softness for w, j in zip(weights, seen, strict=True)]
                mixed[i, head] = torch.stack(masked) @ v[seen, head]
        out[row] = module.proj(mixed.flatten(1)).masked_fill(~real[:, None], 0.0).view_as(x[row])
    return out
