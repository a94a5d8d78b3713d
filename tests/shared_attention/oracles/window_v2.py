"""Swin v2's window attention as a loop over queries: cosines, a scale a head, a network of the offset."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor


def bias(module: torch.nn.Module, apart: tuple[int, ...]) -> Tensor:
    far = [8 * step / max(size - 1, 1) for step, size in zip(apart, module.window, strict=True)]
    logs = [math.copysign(math.log2(abs(one) + 1) / 3, one) for one in far]
    return 16 * module.position.network(torch.tensor(logs, dtype=torch.float64)).sigmoid()  # (H,)


def window_of(place: tuple[int, ...], grid: tuple[int, ...], window: tuple[int, ...], shift: tuple[int, ...]) -> tuple:
    return tuple(
        0 if size <= full else (at - step) // full
        for at, size, full, step in zip(place, grid, window, shift, strict=True)
    )


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    q, k, v = module.qkv(x).unflatten(-1, (3, module.heads, module.head_dim)).unbind(-3)
    if module.q_bias is not None:
        q = q + module.q_bias.view(module.heads, -1)
        v = v + module.v_bias.view(module.heads, -1)
    scale = module.scale.clamp(max=math.log(100)).exp()
    out = torch.zeros_like(x)
    for row, place in itertools.product(range(len(x)), places):
        mine = window_of(place, grid, module.window, module.shift)
        seen = [
            other
            for other in places
            if window_of(other, grid, module.window, module.shift) == mine and (mask is None or mask[row][other])
        ]
        if not seen:
            continue
        logits = []
        for other in seen:
            cosine = torch.cosine_similarity(q[row][place], k[row][other], -1)
            logits.append(scale * cosine + bias(module, tuple(a - b for a, b in zip(place, other, strict=True))))
        weights = torch.stack(logits).softmax(0)  # (n, H)
        values = torch.stack([v[row][other] for other in seen])  # (n, H, D)
        out[row][place] = (weights[..., None] * values).sum(0).flatten()
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
