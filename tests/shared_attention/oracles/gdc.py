"""Global dynamic convolution with every map of every patch written out."""

from __future__ import annotations

import itertools
from math import prod

import torch
from torch import Tensor
from torch.nn import functional


def on(weight: Tensor, patches: tuple[int, ...]) -> Tensor:
    """`(C, *own)` for other patches."""
    modes = {1: "linear", 2: "bilinear", 3: "trilinear"}
    return functional.interpolate(weight[None], patches, mode=modes[len(patches)])[0]


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
    x = x.masked_fill(~mask[..., None], 0.0)
    grid, rank, size = tuple(x.shape[1:-1]), module.rank, module.patch
    patches = tuple(max(1, full // size) for full in grid)
    offset = on(module.offset, patches)
    weight = on(module.project.weight.unflatten(1, module.patches), patches) * prod(module.patches) / prod(patches)
    taps = module.summary.conv.weight[:, 0]  # (C, *patch)
    keys = module.keys(x)
    maps = []
    for patch in itertools.product(*map(range, patches)):
        cut = x[(slice(None), *(slice(at * size, (at + 1) * size) for at in patch))]  # (B, *p, C), cut short at the end
        inside = taps[(slice(None), *map(slice, cut.shape[1:-1]))].movedim(0, -1)
        summary = (cut * inside).flatten(1, rank).sum(1) + module.summary.conv.bias + offset[(slice(None), *patch)]
        kernel = functional.gelu(module.norm(summary))  # (B, C)
        maps.append((keys * kernel.view(len(x), *[1] * rank, -1)).sum(-1) + module.shift)
    out = x + torch.stack(maps, -1) @ weight.flatten(1).T + module.project.bias
    return out.masked_fill(~mask[..., None], 0.0)
