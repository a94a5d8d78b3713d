"""DaViT's window attention as a loop over queries; with `zeros`, what is missing in a window is a token of zeros."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    out = torch.zeros_like(x)
    for row, place in itertools.product(range(len(x)), places):
        start = [at // size * size for at, size in zip(place, module.window, strict=True)]
        inside = itertools.product(*(range(at, at + size) for at, size in zip(start, module.window, strict=True)))
        seen = []
        for other in inside:
            real = all(at < size for at, size in zip(other, grid, strict=True)) and (mask is None or mask[row][other])
            if real:
                seen.append(x[row][other])
            elif module.border == "zeros":
                seen.append(torch.zeros_like(x[row][place]))
        q = module.qkv(x[row][place]).view(3, module.heads, -1)[0]  # (H, D)
        if not seen:
            continue
        _, k, v = module.qkv(torch.stack(seen)).unflatten(-1, (3, module.heads, -1)).unbind(1)  # (n, H, D)
        weights = ((q * k).sum(-1) * module.head_dim**-0.5).softmax(0)  # (n, H)
        out[row][place] = (weights[..., None] * v).sum(0).flatten()
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
