"""Channel group attention as a loop over pairs of channels."""

from __future__ import annotations

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = torch.ones(x.shape[1:-1], dtype=torch.bool) if mask is None else mask[row]
        values, queries, keys = module.qkv(x[row][real]).chunk(3, -1)  # (N, C) each
        mixed = torch.zeros_like(values)
        for channel in range(module.dim):
            first = channel // module.head_dim * module.head_dim
            group = range(first, first + module.head_dim)
            logits = [(queries[:, channel] * keys[:, other]).sum() * module.head_dim**-0.5 for other in group]
            for weight, other in zip(torch.stack(logits).softmax(0), group, strict=True):
                mixed[:, channel] += weight * values[:, other]
        out[row][real] = module.proj(mixed)
    return out
