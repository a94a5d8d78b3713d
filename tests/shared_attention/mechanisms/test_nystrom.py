"""Nyström attention against its three maps written out, on landmarks so few that the inverse keeps its digits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from shared_attention.testing import Subject


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param({"form": "paper"}, id="paper"),
        pytest.param({"form": "published"}, id="published"),
        pytest.param({"kernel": 3}, id="with a convolution"),
        pytest.param({"landmarks": 30}, id="as many landmarks as tokens"),
    ],
)
def test_nystrom_attention_is_the_product_of_its_maps(arguments: dict[str, Any], masked: bool) -> None:
    subject = Subject("nystrom", 2, {"landmarks": 3, **arguments})
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64, grid=(5, 6))
    mask = torch.rand(x.shape[:-1], generator=torch.Generator().manual_seed(5)) > 0.3 if masked else None
    torch.testing.assert_close(module(x, mask=mask), written_out(module, x, mask), rtol=1e-8, atol=1e-8)


def written_out(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    count = x[0, ..., 0].numel()
    landmarks = min(module.landmarks, count)
    size, longer = divmod(count, landmarks)
    bounds = [0]
    for number in range(landmarks):
        bounds.append(bounds[-1] + size + (number >= landmarks - longer))
    maps = {}
    for row, tokens in enumerate(x.flatten(1, -2)):
        real = torch.ones(count, dtype=torch.bool) if mask is None else mask[row].flatten()
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            q, k, v = (one[:, part] for one in module.qkv(tokens).chunk(3, -1))
            if count <= module.landmarks:
                maps[row, head] = (weights(q, k[real], module), v[real])
                continue
            members = [[i for i in range(a, b) if real[i]] for a, b in pairwise(bounds)]
            mean_q = torch.stack([q[one].mean(0) for one in members if one])
            mean_k = torch.stack([k[one].mean(0) for one in members if one])
            small = weights(mean_q, mean_k, module)
            maps[row, head] = (weights(q, mean_k, module), small, weights(mean_q, k[real], module), v[real])
    widest = max((parts[1].sum(0).max() for parts in maps.values() if len(parts) == 4), default=None)
    rows = []
    for row in range(len(x)):
        heads = [joined(maps[row, head], widest, module) for head in range(module.heads)]
        out = torch.cat(heads, -1)
        if module.conv is not None:
            out = out + along(module, x[row], mask if mask is None else mask[row])
        out = module.proj(out)
        rows.append(out if mask is None else out.masked_fill(~mask[row].flatten()[:, None], 0.0))
    return torch.stack(rows).view_as(x)


def weights(q: Tensor, k: Tensor, module: torch.nn.Module) -> Tensor:
    return (q @ k.T * module.scale).softmax(-1)


def joined(parts: tuple[Tensor, ...], widest: Tensor | None, module: torch.nn.Module) -> Tensor:
    if len(parts) == 2:
        return parts[0] @ parts[1]
    first, small, last, v = parts
    unit = torch.eye(len(small), dtype=small.dtype)
    inverse = small.T / (widest if module.form == "published" else small.sum(0).max())
    for _ in range(6):
        p = small @ inverse
        inverse = inverse @ (13 * unit - 15 * p + 7 * p @ p - p @ p @ p) / 4
    return first @ inverse @ last @ v


def along(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    v = module.qkv(x).flatten(0, -2).chunk(3, -1)[2]
    v = v if mask is None else v.masked_fill(~mask.flatten()[:, None], 0.0)
    out = torch.zeros_like(v)
    reach = module.conv.shape[-1] // 2
    for i in range(len(v)):
        for step in range(-reach, reach + 1):
            if 0 <= i + step < len(v):
                out[i] += v[i + step] * module.conv[:, 0, step + reach].repeat_interleave(module.head_dim)
    return out
