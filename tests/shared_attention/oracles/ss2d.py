"""The cross-scan as loops over rows, routes, tokens and channels' states."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def walk(scan: torch.nn.Module, route: int, tokens: Tensor, real: list[bool]) -> Tensor:
    """One route's scan, one token after the other: `(L, D)` in the order of the route to the same."""
    rank = scan.step_rank
    state = torch.zeros(scan.decay_log.shape[1:], dtype=tokens.dtype)  # (D, N)
    found = []
    for token, is_real in zip(tokens, real, strict=True):
        projected = scan.project[route] @ token
        write, read = projected[rank:].chunk(2)
        step = functional.softplus(scan.step_weight[route] @ projected[:rank] + scan.step_bias[route])
        if is_real:
            state = torch.exp(-step[:, None] * scan.decay_log[route].exp()) * state + torch.outer(step * token, write)
        found.append(state @ read + scan.skip[route] * token)
    return torch.stack(found)


def routes(grid: tuple[int, ...]) -> list[list[int]]:
    """Along the last axis, the one before, ..., then the same backwards."""
    places = torch.arange(torch.Size(grid).numel()).view(grid)
    found = []
    for turn in range(len(grid)):
        axes = list(range(len(grid)))
        found.append(places.permute(axes[len(grid) - turn :] + axes[: len(grid) - turn]).flatten().tolist())
    return found + [route[::-1] for route in found]


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
    x = x.masked_fill(~mask[..., None], 0.0)
    content, gate = module.project_in(x).chunk(2, -1)
    content = functional.silu(module.conv(content.masked_fill(~mask[..., None], 0.0)))
    summed = torch.zeros_like(content).flatten(1, -2)
    for row in range(len(x)):
        tokens, real = content[row].flatten(0, -2), mask[row].flatten()
        for number, route in enumerate(routes(tuple(x.shape[1:-1]))):
            summed[row, route] += walk(module.scan, number, tokens[route], real[route].tolist())
    out = module.project_out(module.norm(summed.view_as(content)) * functional.silu(gate))
    return out.masked_fill(~mask[..., None], 0.0)
