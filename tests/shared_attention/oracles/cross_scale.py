"""Cross-scale embedding as a loop over patches and kernels."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    grid, stride = x.shape[1:-1], module.stride
    patches = list(itertools.product(*(range(0, size, stride) for size in grid)))
    tokens = torch.zeros(len(x), len(patches), module.out, dtype=x.dtype)
    sizes = torch.zeros(len(x), len(patches), dtype=x.dtype)
    for row, (at, patch) in itertools.product(range(len(x)), enumerate(patches)):
        real = torch.ones(grid, dtype=torch.bool) if mask is None else mask[row]
        inside = itertools.product(
            *(range(start, min(start + stride, size)) for start, size in zip(patch, grid, strict=True))
        )
        sizes[row, at] = sum(bool(real[place]) for place in inside)
        if not sizes[row, at]:
            continue
        parts = []
        for kernel, branch in zip(module.kernels, module.branches, strict=True):
            total = branch.conv.bias.clone()
            for tap in itertools.product(range(kernel), repeat=len(grid)):
                place = tuple(start + step - (kernel - stride) // 2 for start, step in zip(patch, tap, strict=True))
                if all(0 <= one < size for one, size in zip(place, grid, strict=True)) and real[place]:
                    total = total + branch.conv.weight[(slice(None), slice(None), *tap)] @ x[row][place]
            parts.append(total)
        tokens[row, at] = module.norm(torch.cat(parts))
    return tokens, sizes
