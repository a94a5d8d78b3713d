"""cosFormer as a loop over pairs of tokens: rectified products times the cosine of how far apart they are."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    rows = []
    for row, tokens in enumerate(x.flatten(1, -2)):
        count = len(tokens)
        real = [True] * count if mask is None else mask[row].flatten().tolist()
        q, (k, v) = module.q(tokens).relu(), module.kv(tokens).chunk(2, -1)
        out = torch.zeros_like(tokens)
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            for i in range(count):
                seen = [j for j in range(count) if real[j]]
                near = [math.cos(math.pi / 2 * (i - j) / count) for j in seen]
                weights = [q[i, part] @ k[j, part].relu() * one for j, one in zip(seen, near, strict=True)]
                total = sum(weights, torch.zeros((), dtype=x.dtype)).clamp(min=1e-6)
                out[i, part] = sum(
                    (weight / total * v[j, part] for j, weight in zip(seen, weights, strict=True)), out[i, part]
                )
        out = module.proj(out)
        out[[not one for one in real]] = 0
        rows.append(out)
    return torch.stack(rows).view_as(x)
