"""Spectral gating as the circular convolution that it is: a sum over all pairs of tokens."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
    x = x.masked_fill(~mask[..., None], 0.0)
    grid = tuple(x.shape[1:-1])
    weight = torch.view_as_complex(module.weight.detach().clone())
    kernel = torch.fft.irfftn(weight, s=module.grid, dim=tuple(range(len(grid))))  # (*own grid, C)
    out = torch.zeros_like(x)
    tokens = list(itertools.product(*map(range, grid)))
    # an offset of the kernel runs from minus a half to a half of the smaller of both grids
    spans = [
        range(max(-(own // 2), -(size // 2)), min(own - own // 2, size - size // 2))
        for own, size in zip(module.grid, grid, strict=True)
    ]
    for token in tokens:
        for apart in itertools.product(*spans):
            source = tuple((at - step) % size for at, step, size in zip(token, apart, grid, strict=True))
            place = tuple(step % own for step, own in zip(apart, module.grid, strict=True))
            out[(slice(None), *token)] += kernel[place] * x[(slice(None), *source)]
    return out.masked_fill(~mask[..., None], 0.0)
