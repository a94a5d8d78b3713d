"""LARA in evaluation as a loop over heads, queries and proposals, with densities written out."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    count = x[0, ..., 0].numel()
    landmarks = min(module.landmarks, count)
    size, longer = divmod(count, landmarks)
    bounds = [0]
    for number in range(landmarks):
        bounds.append(bounds[-1] + size + (number >= landmarks - longer))
    root = module.head_dim**0.5
    rows = []
    for row, tokens in enumerate(x.flatten(1, -2)):
        real = torch.ones(count, dtype=torch.bool) if mask is None else mask[row].flatten()
        out = torch.zeros_like(tokens)
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            q, k, v = (one[:, part] for one in module.qkv(tokens).chunk(3, -1))
            members = [[i for i in range(a, b) if real[i]] for a, b in pairwise(bounds)]
            if not real.any():
                continue
            proposals = [q[one].mean(0) + k[one].mean(0) for one in members if one]
            features = [torch.stack([(w @ key - key @ key / 2) / root for key in k[real]]) for w in proposals]
            sums = [feature.softmax(0) @ v[real] for feature in features]
            for i in range(count):
                worth = []
                for w, feature in zip(proposals, features, strict=True):
                    own = (w @ q[i] - q[i] @ q[i] / 2) / root
                    density = (w @ w - w @ w / 2) / root
                    worth.append(w @ q[i] / root + own + feature.logsumexp(0) - density)
                out[i, part] = torch.stack(worth).softmax(0) @ torch.stack(sums)
        out = module.proj(out)
        out[~real] = 0
        rows.append(out)
    return torch.stack(rows).view_as(x)
