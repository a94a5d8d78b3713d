"""The multi-head scan as loops: routes by walking, states token by token, the fusion in words of its formula."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def snake(height: int, width: int) -> list[tuple[int, int]]:
    return [(i, j if i % 2 == 0 else width - 1 - j) for i in range(height) for j in range(width)]


def diagonal(height: int, width: int) -> list[tuple[int, int]]:
    found = []
    for number in range(height + width - 1):
        cells = [(i, number - i) for i in range(height) if 0 <= number - i < width]
        found += cells if number % 2 else cells[::-1]
    return found


def spiral(height: int, width: int) -> list[tuple[int, int]]:
    """Go on until the next cell is taken, then turn right."""
    left = {(i, j) for i in range(height) for j in range(width)}
    at, heading, found = (0, 0), (0, 1), []
    while left:
        found.append(at)
        left.discard(at)
        for _ in range(4):
            ahead = (at[0] + heading[0], at[1] + heading[1])
            if ahead in left:
                at = ahead
                break
            heading = (heading[1], -heading[0])
    return found


def plane(height: int, width: int, family: int) -> list[list[tuple[int, int]]]:
    """The two routes of a family."""
    if family == 0:
        return [snake(height, width), [(i, j) for j, i in snake(width, height)]]
    if family == 1:
        return [diagonal(height, width), [(i, width - 1 - j) for i, j in diagonal(height, width)]]
    if family == 2:
        return [spiral(height, width), [(height - 1 - i, j) for i, j in spiral(height, width)]]
    cells = [(i, j) for i in range(height) for j in range(width)]
    return [cells, sorted(cells, key=lambda cell: cell[::-1])]


def routes(grid: tuple[int, ...], family: int) -> list[list[int]]:
    planes, height, width = (1, 1, *grid)[-3:]
    found = []
    for cells in plane(height, width, family):
        flat = [i * width + j for i, j in cells]
        whole = []
        for number in range(planes):
            whole += [number * height * width + one for one in (flat[::-1] if number % 2 else flat)]
        found += [whole, whole[::-1]]
    return found


def walk(scan: torch.nn.Module, route: int, tokens: Tensor, real: list[bool]) -> Tensor:
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


def fuse(scans: list[Tensor], threshold: float) -> Tensor:
    lowest, mean = torch.stack(scans).min(0).values, sum(scans) / len(scans)
    variance = sum((one - mean).square() for one in scans) / (len(scans) - 1)
    distance = sum(one - lowest for one in scans) / len(scans)
    return sum(scans) * (variance.sqrt() / (distance + 1e-5) - threshold).clamp(min=0)


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    mask = torch.ones(x.shape[:-1], dtype=torch.bool) if mask is None else mask
    x = x.masked_fill(~mask[..., None], 0.0)
    grid = tuple(x.shape[1:-1])
    projected = functional.linear(x, module.project_in.weight).flatten(1, -2)
    width = projected.shape[-1] // module.heads
    fused = torch.zeros_like(projected)
    for row in range(len(x)):
        real = mask[row].flatten()
        for head in range(module.heads):
            mine = slice(head * width, (head + 1) * width)
            tokens, scans = projected[row, :, mine], []
            for number, route in enumerate(routes(grid, head)):
                scans.append(torch.zeros_like(tokens))
                scans[-1][route] = walk(module.scan, 4 * head + number, tokens[route], real[route].tolist())
            fused[row, :, mine] = fuse(scans, module.threshold)
    out = module.project_out(module.norm(fused)).view(*x.shape[:-1], -1)
    return out.masked_fill(~mask[..., None], 0.0)
