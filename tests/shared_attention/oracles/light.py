"""Both gates as loops over rows, channels and places."""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor


def channel_weight(module: torch.nn.Module, mean: Tensor) -> Tensor:
    if module.squeeze is not None:
        squeezed = (module.squeeze.weight @ mean + module.squeeze.bias).relu()
        return module.expand.weight @ squeezed + module.expand.bias
    taps, channels = module.along.weight.flatten(), range(len(mean))
    near = [[(c + step, taps[step + 2]) for step in range(-2, 3) if c + step in channels] for c in channels]
    return torch.stack([sum(mean[c] * tap for c, tap in one) for one in near])


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    grid = x.shape[1:-1]
    kernel = module.place.conv.weight[0]  # (2, *k)
    reach = kernel.shape[1] // 2
    for row in range(len(x)):
        real = torch.ones(grid, dtype=torch.bool) if mask is None else mask[row]
        mean = x[row][real].mean(0)
        weight = channel_weight(module, mean)
        gated = x[row] * 2 * weight.sigmoid()
        for place in product(*map(range, grid)):
            if not real[place]:
                continue
            logit = torch.zeros((), dtype=x.dtype)
            for step in product(range(-reach, reach + 1), repeat=len(grid)):
                near = tuple(a + b for a, b in zip(place, step, strict=True))
                inside = all(0 <= a < length for a, length in zip(near, grid, strict=True))
                if inside and real[near]:
                    tap = tuple(s + reach for s in step)
                    logit = logit + kernel[0][tap] * gated[near].mean() + kernel[1][tap] * gated[near].max()
            out[row][place] = gated[place] * 2 * logit.sigmoid()
    return out
