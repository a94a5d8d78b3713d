"""Super token attention as a loop over tokens and the super tokens around them, for the form that hides padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    if module.form != "masked" or module.refine == "convolution":
        pytest.skip("the released form and convolutions are held against the authors' code")
    grid = x.shape[1:-1]
    window = [min(pair) for pair in zip(module.window, grid, strict=True)]
    places = list(itertools.product(*map(range, grid)))
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = [place for place in places if mask is None or mask[row][place]]
        if not real:
            continue
        home = {place: tuple(at // size for at, size in zip(place, window, strict=True)) for place in real}
        alive = sorted(set(home.values()))
        supers = {one: torch.stack([x[row][place] for place in real if home[place] == one]).mean(0) for one in alive}
        for _ in range(module.iterations):
            shares = {}
            for place in real:
                near = [one for one in alive if max(abs(a - b) for a, b in zip(one, home[place], strict=True)) <= 1]
                logits = torch.stack([x[row][place] @ supers[one] for one in near]) / module.dim**0.5
                shares[place] = dict(zip(near, logits.softmax(0), strict=True))
            for one in alive:
                weights = [shares[place].get(one, torch.zeros(())) for place in real]
                sums = sum(weight * x[row][place] for weight, place in zip(weights, real, strict=True))
                supers[one] = sums / (sum(weights) + 1e-12)
        tokens = torch.stack([supers[one] for one in alive])
        if module.refine == "attention":
            tokens = attended(module, tokens)
        for place in real:
            out[row][place] = sum(share * tokens[alive.index(one)] for one, share in shares[place].items())
    return out


def attended(module: torch.nn.Module, tokens: Tensor) -> Tensor:
    heads = zip(*(part.chunk(module.heads, -1) for part in module.qkv(tokens).chunk(3, -1)), strict=True)
    return module.proj(torch.cat([(q @ k.T / module.head_dim**0.5).softmax(-1) @ v for q, k, v in heads], -1))
