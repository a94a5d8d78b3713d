"""Attention in a convolution as a loop over tokens, neighbours and taps."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    part = module.convolution
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    q, k, v = part.qkv(x).chunk(3, -1)
    out = torch.zeros_like(x)

    def near(place: tuple[int, ...], row: int, dilation: tuple[int, ...]) -> list[tuple[int, ...] | None]:
        """Places of the neighbours, None for one that is not there."""
        found = []
        for tap in itertools.product(*map(range, part.kernel)):
            steps = zip(place, tap, part.kernel, dilation, strict=True)
            other = tuple(at + (step - size // 2) * apart for at, step, size, apart in steps)
            inside = all(0 <= at < size for at, size in zip(other, grid, strict=True))
            found.append(other if inside and (mask is None or mask[row][other]) else None)
        return found

    for row in range(len(x)):
        seen = torch.zeros_like(x[row])
        for place in places:
            others = near(place, row, part.dilation)
            if part.border == "hidden":
                others = [other for other in others if other is not None]
            if not others:
                continue
            none = torch.zeros_like(x[row][place])
            keys = torch.stack([none if other is None else k[row][other] for other in others])
            values = torch.stack([none if other is None else v[row][other] for other in others])
            weights = (keys @ q[row][place] * module.dim**-0.5).softmax(0)
            seen[place] = x[row][place] + weights @ values
        kernel = part.mix.conv.weight.flatten(2).unbind(-1)
        bias = 0.0 if part.mix.conv.bias is None else part.mix.conv.bias
        for place in places:
            total = torch.zeros_like(x[row][place]) + bias
            for other, weight in zip(near(place, row, (1,) * len(grid)), kernel, strict=True):
                total = total if other is None else total + weight @ seen[other]
            out[row][place] = total.relu()
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
