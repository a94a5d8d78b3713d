"""Two modalities, each a vector, made one.

>>> ConcatFusion(16)(torch.zeros(2, 16), torch.zeros(2, 16)).shape  # (B, D), (B, D)
torch.Size([2, 16])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["ConcatFusion", "GatedBilinearFusion"]


class ConcatFusion(nn.Module):
    """Both side by side, then two linear layers with ReLU.

    Args:
        dim: Width of each, and of the result.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """`(B, D)` and `(B, D)` to `(B, D)`."""
        fused: Tensor = self.layers(torch.cat([first, second], 1))
        return fused


class GatedBilinearFusion(nn.Module):
    """Each modality reduced under a gate of both, then all products of the two (Chen et al., Pathomic Fusion, 2020).

    Args:
        dim: Width of each, and of the result.
        reduction: How many times narrower each is before the products.
        hidden: Width between the products and the result.
        dropout: Probability that a unit is dropped in training.
    """

    def __init__(self, dim: int, *, reduction: int = 8, hidden: int = 256, dropout: float = 0.25) -> None:
        super().__init__()
        narrow = dim // reduction
        if narrow < 1:
            raise ValueError(f"dim {dim} is less than the reduction {reduction}")
        self.reduce = nn.ModuleList([nn.Linear(dim, narrow) for _ in range(2)])
        self.gates = nn.ModuleList([nn.Linear(2 * dim, narrow) for _ in range(2)])
        self.refine = nn.ModuleList([nn.Linear(narrow, narrow) for _ in range(2)])
        self.products = nn.Linear((narrow + 1) ** 2, hidden)
        self.output = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """`(B, D)` and `(B, D)` to `(B, D)`."""
        both = torch.cat([first, second], 1)
        sides = []
        for side, reduce, gate, refine in zip((first, second), self.reduce, self.gates, self.refine, strict=True):
            kept = torch.sigmoid(gate(both)) * torch.relu(reduce(side))  # (B, narrow)
            kept = self.dropout(torch.relu(refine(kept)))
            sides.append(torch.cat([kept, torch.ones_like(kept[:, :1])], 1))  # a one keeps each side by itself too
        products = (sides[0].unsqueeze(2) * sides[1].unsqueeze(1)).flatten(1)  # (B, (narrow + 1)²)
        hidden = self.dropout(torch.relu(self.products(self.dropout(products))))
        fused: Tensor = self.dropout(torch.relu(self.output(hidden)))
        return fused
