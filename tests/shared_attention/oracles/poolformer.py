"""PoolFormer's pooling as a loop over tokens and their real neighbours."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out, grid, reach = torch.zeros_like(x), x.shape[1:-1], module.kernel // 2
    for row in range(len(x)):
        for token in itertools.product(*map(range, grid)):
            if mask is not None and not mask[row][token]:
                continue
            spans = [range(max(0, at - reach), min(size, at + reach + 1)) for at, size in zip(token, grid, strict=True)]
            near = [one for one in itertools.product(*spans) if mask is None or mask[row][one]]
            out[row][token] = torch.stack([x[row][one] for one in near]).mean(0) - x[row][token]
    return out
