"""Losses weighed by learned uncertainties."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["LearnedWeights"]


class LearnedWeights(nn.Module):
    """`1/2 sum(exp(-w) L + w)` with a learned `w` for each loss, from 0 (Kendall et al., CVPR 2018, as in FairMOT).

    Args:
        losses: How many losses are added.
    """

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.zeros(losses))

    def forward(self, losses: Tensor) -> Tensor:
        """Losses `(n,)` → a scalar."""
        if losses.shape != self.w.shape:
            raise ValueError(f"{len(losses)} losses; the weights are for {len(self.w)}")
        return 0.5 * (torch.exp(-self.w) * losses + self.w).sum()
