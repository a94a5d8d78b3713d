"""RCMHA as a loop over heads, queries and keys."""

from __future__ import annotations

import torch
from torch import Tensor


def convolved(projection: torch.nn.Module, tokens: Tensor, real: Tensor) -> Tensor:
    """One row `(N, C)` to `(N, H, D)`: each token and those before it, weighed channel by channel."""
    linear = projection.linear(tokens).masked_fill(~real[:, None], 0.0).unflatten(-1, (projection.heads, -1))
    weight = projection.conv.weight[:, 0]  # (D, kernel); the last tap is the own token
    out = torch.zeros_like(linear)
    for place in range(len(tokens)):
        for tap in range(weight.shape[1]):
            before = place - (weight.shape[1] - 1 - tap)
            if before >= 0:
                out[place] += linear[before] * weight[:, tap]
    return out if projection.conv.bias is None else out + projection.conv.bias


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    out = torch.zeros_like(x)
    for row in range(len(x)):
        tokens = x[row].flatten(0, -2)
        real = torch.ones(len(tokens), dtype=torch.bool) if mask is None else mask[row].flatten()
        tokens = tokens.masked_fill(~real[:, None], 0.0)
        q, k, v = (convolved(part, tokens, real) for part in (module.q, module.k, module.v))
        mixed = torch.zeros_like(tokens)
        for head in range(module.heads):
            span = slice(head * q.shape[-1], (head + 1) * q.shape[-1])
            for i in range(len(tokens)):
                seen = [j for j in range(len(tokens)) if real[j] and (j <= i or not module.causal)]
                if not seen:
                    continue
                logits = []
                for j in seen:
                    apart = min(max(j - i, -module.reach), module.reach - 1) + module.reach
                    logit = (q[i, head] + module.query_bias[head]) @ k[j, head]
                    logit = logit + q[i, head] @ module.distance_key[apart, head] + module.distance_bias[apart, head]
                    logits.append(logit * q.shape[-1] ** -0.5)
                weights = torch.stack(logits).softmax(0)
                mixed[i, span] = weights @ v[seen, head]
        out[row] = module.proj(mixed).masked_fill(~real[:, None], 0.0).view_as(x[row])
    return out
