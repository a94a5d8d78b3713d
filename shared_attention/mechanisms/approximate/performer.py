"""Softmax attention by positive random features, with the values as the residual (the performer of T2T-ViT).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("performer", 32, rank=2)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.contract import TokenMixer
from shared_attention.registry import Card, Source, register

__all__ = ["Performer", "PositiveFeatures"]


class PositiveFeatures(nn.Module):
    """Linear attention of one head that takes `(B, N, C)` to `(B, N, hidden)`, its values being the residual.

    Args:
        dim: Channels `C` in.
        hidden: Channels of queries, keys and values, and out.
        ratio: Random features as a share of `hidden`.
        form: Whether queries and keys are scaled to those of softmax attention (`paper`) or taken as they are
            (`published`).
    """

    def __init__(self, dim: int, hidden: int, *, ratio: float = 0.5, form: str = "published") -> None:
        super().__init__()
        positive("ratio", ratio)
        count = max(int(hidden * ratio), 1)
        self.scale = hidden**-0.25 if form == "paper" else 1.0
        self.kqv = nn.Linear(dim, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)
        self.directions: Tensor
        self.register_buffer("directions", nn.init.orthogonal_(torch.empty(count, hidden)) * count**0.5)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`(B, N, C)` and bool `(B, N)` to `(B, N, hidden)`."""
        k, q, v = self.kqv(x).chunk(3, -1)  # (B, N, hidden) each
        with torch.autocast(x.device.type, enabled=False):  # exponentials need their bits
            keys, queries = self._logarithms(k), self._logarithms(q)  # (B, N, F)
            if mask is not None:
                keys = keys.masked_fill(~mask.unsqueeze(-1), torch.finfo(keys.dtype).min / 2)
            largest_key = keys.amax((1, 2), keepdim=True)  # (B, 1, 1); both cancel, up to the guard
            largest_query = queries.amax(2, keepdim=True)  # (B, N, 1)
            keys, queries = (keys - largest_key).exp(), (queries - largest_query).exp()
            if mask is not None:
                keys = keys.masked_fill(~mask.unsqueeze(-1), 0.0)
            sums = keys.transpose(1, 2) @ v.to(keys.dtype)  # (B, F, hidden)
            total = (queries * keys.sum(1, keepdim=True)).sum(-1, keepdim=True)  # (B, N, 1)
            guard = self.directions.shape[0] * 1e-8 * (-(largest_key + largest_query)).clamp(max=80.0).exp()
            out = (queries @ sums / (total + guard)).to(v.dtype)
        return v + self.proj(out)

    def _logarithms(self, x: Tensor) -> Tensor:
        """Logarithms of the features `(B, N, F)` of `(B, N, hidden)`, in at least 32 bits."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32)) * self.scale
        return wide @ self.directions.to(wide.dtype).T - wide.square().sum(-1, keepdim=True) / 2


@register(
    Card(
        name="performer",
        title="Performer with values as residual (T2T-ViT)",
        paper="Choromanski et al., Rethinking Attention with Performers, ICLR 2021; Yuan et al., Tokens-to-Token ViT, "
        "ICCV 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="4*N*C**2 + 4*N*C**2*ratio",
        formula="φ(z)_f = exp(ω_f · z − |z|²/2)                 ω: fixed orthogonal directions, z scaled by D^-¼\n"
        "y_i = v_i + W φ(q_i) · Σ_j φ(k_j) v_jᵀ / φ(q_i) · Σ_j φ(k_j)",
        source=Source("yitu-opensource/T2T-ViT", "0f63dc9", "BSD-3-Clause-Clear"),
        fixtures=("t2t_token_performer",),
        notes="One head; random directions are drawn once, orthogonal, and kept with the state. T2T's code does not "
        "scale queries and keys and adds 1e-8 below the fraction, which leaves the values alone where queries and "
        "keys are long: `form=published`. The default `form=paper` scales them by hidden^-1/4 as for softmax "
        "attention. Exponents are taken from their largest, so neither form underflows.",
        flat=True,
    )
)
class Performer(TokenMixer):
    """Values plus linear attention among all tokens by the exponential features of Performer.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        hidden: Channels of queries, keys and values; None for as many as the tokens have.
        ratio: Random features as a share of `hidden`.
        form: Scale of queries and keys: that of softmax attention, or none as T2T published.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        hidden: int | None = None,
        ratio: float = 0.5,
        form: Literal["paper", "published"] = "paper",
    ) -> None:
        super().__init__(dim, rank=rank)
        hidden = dim if hidden is None else hidden
        positive("hidden", hidden)
        self.features = PositiveFeatures(dim, hidden, ratio=ratio, form=form)
        self.out = nn.Identity() if hidden == dim else nn.Linear(hidden, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        out = self.features(x.flatten(1, -2), None if mask is None else mask.flatten(1))
        return self.out(out.unflatten(1, x.shape[1:-1]))
