"""Agent attention as a loop over heads and agents, agents as means over their cell of the coarse grid."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    if module.coarser is not None:
        pytest.skip("a coarser grid of keys is held against the authors' code")
    grid = x.shape[1:-1]
    places = list(itertools.product(*map(range, grid)))
    q, (k, v) = module.q(x), module.kv(x).chunk(2, -1)
    collecting, answering = module.collecting(grid), module.answering(grid)  # (H, A, N)
    cells = list(itertools.product(*map(range, module.agents)))
    out = torch.zeros_like(x)
    for row in range(len(x)):
        real = [number for number, place in enumerate(places) if mask is None or mask[row][place]]
        if not real:
            continue
        flat_q, flat_k, flat_v = (part[row].flatten(0, -2) for part in (q, k, v))
        agents, alive = [], []
        for number, cell in enumerate(cells):
            members = [one for one in real if inside(places[one], cell, grid, module.agents)]
            if members:
                agents.append(flat_q[members].mean(0))
                alive.append(number)
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            collected = []
            for number, agent in zip(alive, agents, strict=True):
                logits = flat_k[real][:, part] @ agent[part] / module.head_dim**0.5 + collecting[head, number, real]
                collected.append(logits.softmax(0) @ flat_v[real][:, part])
            for one in real:
                logits = torch.stack([agent[part] @ flat_q[one, part] for agent in agents]) / module.head_dim**0.5
                weights = (logits + answering[head, alive, one]).softmax(0)
                out[row][places[one]][part] = weights @ torch.stack(collected)
    nearby = module.local(v if mask is None else v.masked_fill(~mask.unsqueeze(-1), 0.0))
    out = module.proj(out + nearby)
    return out if mask is None else out.masked_fill(~mask.unsqueeze(-1), 0.0)


def inside(place: tuple[int, ...], cell: tuple[int, ...], grid: torch.Size, counts: tuple[int, ...]) -> bool:
    """Whether a cell covers a place; neighbouring cells may share places."""
    bounds = zip(place, cell, grid, counts, strict=True)
    return all(at * size // count <= one < math.ceil((at + 1) * size / count) for one, at, size, count in bounds)
