"""Attention with a memory of slots as a loop over heads, queries and slots."""

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
            for i in range(len(tokens)):
                if not real[i]:
                    continue
                seen = [j for j in range(len(tokens)) if real[j] and not (module.causal and j > i)]
                keys = slots(k[seen, part], module.write_keys, module)
                values = slots(v[seen, part], module.write_values, module)
                weights = (keys @ q[i, part] / module.head_dim**0.5).softmax(0)
                out[i, part] = weights @ values
        out = module.proj(out)
        out[[not one for one in real]] = 0
        rows.append(out)
    return torch.stack(rows).view_as(x)


def slots(seen: Tensor, write: Tensor, module: torch.nn.Module) -> Tensor:
    """Each slot `(R, D)` is an average of what was seen `(m, D)`; the causal form of CAB takes its last part alone."""
    found = []
    for slot in write.T:
        shares = (seen @ slot).softmax(0)
        found.append(shares[-1] * seen[-1] if module.causal and module.form == "published" else shares @ seen)
    return torch.stack(found)
