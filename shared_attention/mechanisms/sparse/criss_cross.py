"""Every token looks along the lines of the grid that cross in it; twice over, all tokens are reached (CCNet).

>>> import torch
>>> from shared_attention import build
>>> build("criss_cross", 32, rank=2, recurrence=2)(torch.zeros(1, 9, 6, 32)).shape  # (B, *S, C) stays
torch.Size([1, 9, 6, 32])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.attend import token_softmax
from shared_attention.contract import TokenMixer, blank
from shared_attention.registry import Card, Source, register

__all__ = ["CrissCross"]


@register(
    Card(
        name="criss_cross",
        title="Criss-cross attention (CCNet)",
        paper="Huang et al., CCNet: Criss-Cross Attention for Semantic Segmentation, ICCV 2019",
        year=2019,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="recurrence*(5*N*C**2/4 + 9*rank*N*N**(1/rank)*C/8)",
        formula="L(i) = tokens that share all but one coordinate with i, and i itself once\n"
        "x_i ← x_i + γ Σ_{j ∈ L(i)} softmax_{j ∈ L(i)}(q_i · k_j) v_j     recurrence times, same weights",
        source=Source("speedinghzl/CCNet", "1fae6c6", "MIT"),
        fixtures=("ccnet_criss_cross",),
        notes="One softmax over all lines together, not scaled, with the token itself counted once. The input is "
        "added inside, to a share that begins at zero. The paper passes twice with the same weights "
        "(`recurrence=2`); the published class is one pass, the default.",
        flat=True,
    )
)
class CrissCross(TokenMixer):
    """Softmax attention to the tokens on the same lines, added to the input.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        reduction: Queries and keys have the channels divided by this.
        recurrence: How often tokens are passed on, with the same weights.
    """

    def __init__(self, dim: int, *, rank: int, reduction: int = 8, recurrence: int = 1) -> None:
        super().__init__(dim, rank=rank)
        positive("reduction", reduction)
        positive("recurrence", recurrence)
        self.recurrence = recurrence
        self.q = nn.Linear(dim, max(dim // reduction, 1))
        self.k = nn.Linear(dim, max(dim // reduction, 1))
        self.v = nn.Linear(dim, dim)
        self.share = nn.Parameter(torch.zeros(1))

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        visible = None
        if mask is not None:
            lines = [mask.movedim(axis + 1, -1).unsqueeze(-2) for axis in range(self.rank)]
            visible = self._crossing([line.expand(*line.shape[:-2], line.shape[-1], -1) for line in lines])
        for _ in range(self.recurrence):
            x = blank(x + self.share * self._once(x, visible), mask)
        return x

    def _once(self, x: Tensor, visible: Tensor | None) -> Tensor:
        """What the tokens see: `(B, *S, C)`; `visible` is bool `(B, *S, sum of S)`."""
        q, k, v = self.q(x), self.k(x), self.v(x)
        logits = []
        for axis, size in enumerate(x.shape[1:-1]):
            along = q.movedim(axis + 1, -2) @ k.movedim(axis + 1, -2).transpose(-2, -1)  # (B, ..., size, size)
            if axis < self.rank - 1:  # itself is on every line, and is counted on the last
                itself = torch.eye(size, dtype=torch.bool, device=x.device)
                along = along.masked_fill(itself, -math.inf)
            logits.append(along)
        weights = token_softmax(self._crossing(logits), mask=visible).to(v.dtype)  # (B, *S, sum of S)
        out = torch.zeros_like(v)
        for axis, share in enumerate(weights.split(x.shape[1:-1], -1)):
            out = out + (share.movedim(axis + 1, -2) @ v.movedim(axis + 1, -2)).movedim(-2, axis + 1)
        return out

    def _crossing(self, lines: list[Tensor]) -> Tensor:
        """Lines along each axis `(B, ..., size, size)`, side by side at each token: `(B, *S, sum of S)`."""
        return torch.cat([line.movedim(-2, axis + 1) for axis, line in enumerate(lines)], -1)
