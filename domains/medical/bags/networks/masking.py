"""Stochastic masking of the instances that are looked at most (ACMIL's STKIM).

>>> import torch
>>> logits = torch.tensor([[4.0, 1.0, 3.0, 2.0]])
>>> hide_highest(logits, count=2, share=1.0).tolist()
[[-1000000000.0, 1.0, -1000000000.0, 2.0]]
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hide_highest"]

_HIDDEN = -1e9
"""Of a masked logit, as published: where all instances of a bag are masked they count alike."""


def hide_highest(logits: Tensor, *, count: int, share: float, mask: Tensor | None = None) -> Tensor:
    """Hides, at random, some of the highest logits of each row.

    Args:
        logits: `(..., N)`.
        count: How many of the highest may be hidden; all of a row that has fewer.
        share: Share of them that is, rounded down.
        mask: bool, broadcastable to the logits, True for a real instance.

    Returns:
        Logits of the same shape, -1e9 where hidden. Draws from torch's current seed.
    """
    if count < 1 or share <= 0:
        return logits
    shown = logits.detach() if mask is None else logits.detach().masked_fill(~mask, -torch.inf)
    values, highest = shown.topk(min(count, logits.shape[-1]), dim=-1)  # (..., count)
    real = values > -torch.inf
    chances = torch.rand(values.shape, device=logits.device).masked_fill(~real, 2.0)
    place = chances.argsort(-1).argsort(-1)  # at random among the real ones, which come first
    chosen = place < (real.sum(-1, keepdim=True) * share + 1e-6).floor()
    hidden = torch.zeros_like(logits, dtype=torch.bool).scatter(-1, highest, chosen)
    return logits.masked_fill(hidden, _HIDDEN)
