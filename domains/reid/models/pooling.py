"""From a feature map to one vector, or to one for each horizontal stripe."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["GeneralisedMean", "mean_of_stripes"]


class GeneralisedMean(nn.Module):
    """`mean(x^p)^(1/p)` with a learned p: between the mean (1) and the maximum (infinity).

    Radenović, Tolias and Chum, Fine-tuning CNN image retrieval with no human annotation, TPAMI 2018, eq. 2.

    Args:
        power: First value of p.
        stripes: Horizontal stripes that are pooled apart; their vectors stand side by side, the top one first.
        eps: Lower bound of the features before the power is taken.
    """

    def __init__(self, power: float = 3.0, *, stripes: int = 1, eps: float = 1e-6) -> None:
        super().__init__()
        self.power = nn.Parameter(torch.tensor([power]))
        self.stripes, self.eps = stripes, eps

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, H, W)` → `(B, stripes * C)`, in float32."""
        return mean_of_stripes(x.float().clamp_min(self.eps).pow(self.power), self.stripes).pow(1 / self.power)


def mean_of_stripes(x: Tensor, stripes: int) -> Tensor:
    """`(B, C, H, W)` → the mean of each horizontal stripe, side by side: `(B, stripes * C)`.

    Where stripes do not divide the rows, neighbours share a row. Sun et al., Beyond part models, ECCV 2018 (PCB).
    """
    if stripes == 1:
        return x.mean((2, 3))
    return functional.adaptive_avg_pool2d(x, (stripes, 1))[..., 0].transpose(1, 2).flatten(1)
