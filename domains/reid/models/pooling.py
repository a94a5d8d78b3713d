"""From a feature map to one vector."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["GeneralisedMean"]


class GeneralisedMean(nn.Module):
    """`mean(x^p)^(1/p)` with a learned p: between the mean (1) and the maximum (infinity).

    Radenović, Tolias and Chum, Fine-tuning CNN image retrieval with no human annotation, TPAMI 2018, eq. 2.

    Args:
        power: First value of p.
        eps: Lower bound of the features before the power is taken.
    """

    def __init__(self, power: float = 3.0, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([power]))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` → `(B, C)`, in float32."""
        return x.float().clamp_min(self.eps).pow(self.power).mean((2, 3)).pow(1 / self.power)
