"""Full attention as a loop over heads and queries."""

from __future__ import annotations

import torch
from torch import Tensor


def oracle(module: torch.nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    rows = []
    for row, tokens in enumerate(x.flatten(1, -2)):
        real = [True] * len(tokens) if mask is None else mask[row].flatten().tolist()
        q, (k, v) = module.q(tokens), module.kv(tokens).chunk(2, -1)
        out = torch.zeros_like(tokens)
        for head in range(module.heads):
            part = slice(head * module.head_dim, (head + 1) * module.head_dim)
            for query in range(len(tokens)):
                seen = [key for key in range(len(tokens)) if real[key] and not (module.causal and key > query)]
                if not seen:
                    continue
                logits = torch.stack([q[query, part] @ k[key, part] for key in seen]) / module.head_dim**0.5
                out[query, part] = sum(
                    weight * v[key, part] for weight, key in zip(logits.softmax(0), seen, strict=True)
                )
        out = module.proj(out)
        out[[not one for one in real]] = 0
        rows.append(out)
    return torch.stack(rows).view_as(x)
