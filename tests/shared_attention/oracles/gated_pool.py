"""Gated attention pooling as a loop over branches and tokens."""

from __future__ import annotations

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    rows = []
    for row, tokens in enumerate(x.flatten(1, -2)):
        real = [True] * len(tokens) if mask is None else mask[row].flatten().tolist()
        kept = [token for token, one in zip(tokens, real, strict=True) if one]
        branches = []
        for weight, bias in zip(module.score.weight, module.score.bias, strict=True):
            scores = []
            for token in kept:
                unit = torch.tanh(module.content.weight @ token + module.content.bias)
                if module.gate is not None:
                    unit = unit * torch.sigmoid(module.gate.weight @ token + module.gate.bias)
                scores.append((weight @ unit + bias).exp())
            branches.append(sum(score * token for score, token in zip(scores, kept, strict=True)) / sum(scores))
        rows.append(torch.stack(branches))
    return torch.stack(rows)
