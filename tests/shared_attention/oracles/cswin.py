"""Cross-shaped windows as a loop over queries and heads: who is in my bar; and the taps of the convolution in it."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim)).unbind(-3)
    axes = [axis for axis, share in enumerate(module.shares) for _ in range(share)]
    kernels = torch.cat([part.conv.weight for part in module.position]).view(module.heads, module.head_dim, -1)
    biases = torch.cat([part.conv.bias for part in module.position]).view(module.heads, module.head_dim)
    taps = list(itertools.product(range(-1, 2), repeat=len(grid)))
    out = torch.zeros_like(x)
    for row, place, head in itertools.product(range(len(x)), places, range(module.heads)):
        seen = [
            other
            for other in places
            if (mask is None or mask[row][other])
            and (
                module.width is None
                or all(
                    axis == axes[head] or a // module.width == b // module.width
                    for axis, (a, b) in enumerate(zip(place, other, strict=True))
                )
            )
        ]
        if not seen:
            continue
        logits = [(q[row][place][head] * k[row][other][head]).sum() * module.head_dim**-0.5 for other in seen]
        weights = torch.stack(logits).softmax(0)
        mixed = sum(weight * v[row][other][head] for weight, other in zip(weights, seen, strict=True)) + biases[head]
        for tap, kernel in zip(taps, kernels[head].unbind(-1), strict=True):
            near = tuple(at + step for at, step in zip(place, tap, strict=True))
            if near in seen:
                mixed = mixed + kernel * v[row][near][head]
        out[row][place][head * module.head_dim : (head + 1) * module.head_dim] = mixed
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
