"""Bi-level routing as a loop over regions and tokens, for the form that hides padding."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    if module.form != "masked" or module.pool != "none":
        pytest.skip("released forms and pooled regions are held against the authors' code")
    grid = x.shape[1:-1]
    sizes = [-(-size // min(count, size)) for size, count in zip(grid, module.regions, strict=True)]
    places = list(itertools.product(*map(range, grid)))
    q, k, v = module.qkv(x).split([module.key_dim, module.key_dim, module.dim], -1)
    out = torch.zeros_like(x)
    for row in range(len(x)):
        regions: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        for place in places:
            if mask is None or mask[row][place]:
                regions.setdefault(tuple(at // size for at, size in zip(place, sizes, strict=True)), []).append(place)
        means = {
            one: tuple(torch.stack([part[row][place] for place in inside]).mean(0) for part in (q, k))
            for one, inside in regions.items()
        }
        for one, inside in regions.items():
            worth = {other: means[one][0] @ means[other][1] * module.scale for other in regions}
            best = sorted(regions, key=lambda other: -worth[other])[: module.top_k]
            shares = torch.stack([worth[other] for other in best]).softmax(0)
            seen = [(place, share) for other, share in zip(best, shares, strict=True) for place in regions[other]]
            keys = torch.stack([k[row][place] * (share if module.soft else 1) for place, share in seen])
            values = torch.stack([v[row][place] * (share if module.soft else 1) for place, share in seen])
            for place in inside:
                heads = zip(*(part.chunk(module.heads, -1) for part in (q[row][place], keys, values)), strict=True)
                found = [(head_k @ head_q * module.scale).softmax(0) @ head_v for head_q, head_k, head_v in heads]
                out[row][place] = torch.cat(found)
    if module.local is not None:
        out = out + module.local(v if mask is None else v.masked_fill(~mask.unsqueeze(-1), 0.0))
    out = module.proj(out)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)
