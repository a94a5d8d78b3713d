"""A cheap guess of the map chooses, for each query, the few keys that it looks at (Sparsifiner).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("sparsifiner", 32, rank=2, grid=8, landmarks=6, keep=0.2)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from math import ceil, prod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register
from shared_attention.resizing import resized

__all__ = ["Connections", "Sparsifiner", "SparsifinerWithClassToken"]


class Connections(NamedTuple):
    """What a class token and its tokens look at, `n` counting the class token too."""

    out: Tensor
    """`(B, n, C)`."""
    weights: Tensor
    """`(B, H, n, n)`."""
    chosen: Tensor
    """bool `(B, H, n, n)`."""
    scores: Tensor
    """`(B, H, n - 1, n)`, the guess for all but the class token."""


@register(
    Card(
        name="sparsifiner",
        title="Sparsifiner",
        paper="Wei et al., Sparsifiner: Learning Sparse Instance-Dependent Attention for Efficient Vision "
        "Transformers, CVPR 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*C*D/reduction + 2*N*C*landmarks/reduction + N**2*H*landmarks + 2*N**2*C",
        formula="c = softmax_r((A q) · (Pᵀ B k)_r / √H)          r: landmarks, P pools the places\n"
        "m_i = the keep·N keys j with the largest (c |Z|ᵀ)_ij\n"
        "y_i = W Σ_j softmax_{j ∈ m_i}(q_i · k_j / √D) v_j",
        source=Source("lim142857/Sparsifiner", "9a11e26", "MIT"),
        fixtures=("sparsifiner_attention",),
        notes="The guess is softmax(q' (pooled k')) times the size of a learned basis, its scale one over the root of "
        "the number of heads, as released. Pooling and basis belong to `grid` and are resized to the grid at hand. "
        "The authors teach the guess in a phase of its own, by what it misses of the full map; here, in training, the "
        "guess gets the gradient of the logits it stands for and changes no value. The map is still computed in full "
        "and masked. The class token of the released code, which looks at all, is served by "
        "`SparsifinerWithClassToken`.",
        small={"grid": 8, "landmarks": 4},
        selects=True,
    )
)
class Sparsifiner(TokenMixer):
    """Softmax attention of each query to the keys that a low-rank guess of its logits puts first.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        grid: Tokens along each axis that pooling and basis are made for; others get them resized.
        landmarks: Rank of the guess.
        reduction: Channels of a head for each that the guess is made from.
        keep: Share of the keys that a query looks at, above 0, at most 1.
        top_k: Coefficients of the guess that are kept for each query; None for all.
        coefficient_threshold: Coefficients at or below it are dropped, where `top_k` is None.
        score_threshold: Keys with a guess above it are looked at, instead of a share of them; None for the share.
        basis_threshold: Entries of the basis of at most this size are dropped.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        grid: int | tuple[int, ...] = 14,
        landmarks: int = 24,
        reduction: int = 2,
        keep: float = 0.25,
        top_k: int | None = None,
        coefficient_threshold: float = 0.0,
        score_threshold: float | None = None,
        basis_threshold: float = 0.0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        for name, value in (
            ("landmarks", landmarks),
            ("reduction", reduction),
            ("top_k", 1 if top_k is None else top_k),
        ):
            positive(name, value)
        if not 0 < keep <= 1:
            raise ValueError(f"keep {keep} is not above 0 and at most 1")
        self.heads, self.head_dim = heads_of(dim, heads)
        self.grid = per_axis("grid", grid, rank)
        self.keep, self.top_k, self.dropout = keep, top_k, dropout
        self.coefficient_threshold, self.score_threshold = coefficient_threshold, score_threshold
        self.basis_threshold = basis_threshold
        narrow = max(self.head_dim // reduction, 1)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.narrow_q = nn.Linear(self.head_dim, narrow)
        self.narrow_k = nn.Linear(self.head_dim, narrow)
        self.pooling = nn.Parameter(torch.empty(prod(self.grid), landmarks))
        self.basis = nn.Parameter(torch.empty(prod(self.grid), landmarks))
        for parameter in (self.pooling, self.basis):
            nn.init.trunc_normal_(parameter, std=0.02)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))  # (B, H, N, D)
        seen = flat_mask(mask)
        pooling, basis = (self._fitted(part, grid) for part in (self.pooling, self.basis))
        scores = self._scores(q, k, None if mask is None else mask.flatten(1)[:, None, :, None], pooling, basis)
        chosen = self._chosen(scores, seen, ceil(self.keep * scores.shape[-1]))
        if self.training:  # adds nothing but a gradient for the guess
            bias, dropout = scores - scores.detach(), self.dropout
        else:
            bias, dropout = None, 0.0
        out = attend(q, k, v, mask=chosen, bias=bias, dropout=dropout)
        return self.proj(join_heads(out, grid))

    def _fitted(self, weights: Tensor, grid: torch.Size) -> Tensor:
        """`(places, R)` for the places of a grid."""
        return resized(weights.T.unsqueeze(0).unflatten(-1, self.grid), grid).flatten(2).squeeze(0).T

    def _scores(self, q: Tensor, k: Tensor, real: Tensor | None, pooling: Tensor, basis: Tensor) -> Tensor:
        """The guess `(B, H, N, N)` from queries and keys `(B, H, N, D)`, padded ones counting as zeros."""
        q, k = self.narrow_q(q), self.narrow_k(k)  # (B, H, N, d)
        if real is not None:
            q, k = q.masked_fill(~real, 0.0), k.masked_fill(~real, 0.0)
        pooled = k.transpose(-2, -1) @ pooling  # (B, H, d, R)
        shares = (q @ pooled * self.heads**-0.5).softmax(-1)  # (B, H, N, R), over landmarks
        if self.top_k is not None:
            best = shares.topk(min(self.top_k, shares.shape[-1]), sorted=False).indices
            shares = shares * torch.zeros_like(shares).scatter(-1, best, 1.0)
        elif self.coefficient_threshold > 0:
            shares = shares.masked_fill(shares <= self.coefficient_threshold, 0.0)
        size = basis.abs()
        return shares @ size.masked_fill(size <= self.basis_threshold, 0.0).T

    def _chosen(self, scores: Tensor, seen: Tensor | None, budget: int) -> Tensor:
        """Which keys a query looks at: bool, of the shape of the scores."""
        if self.score_threshold is not None:
            chosen = scores > self.score_threshold
        else:
            hidden = scores if seen is None else scores.masked_fill(~seen, float("-inf"))
            best = hidden.topk(budget, sorted=False).indices
            chosen = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, best, True)
        return chosen if seen is None else chosen & seen


class SparsifinerWithClassToken(Sparsifiner):
    """Sparsifiner of a line of tokens of which the first is a class token that looks at all; arguments are those of
    `Sparsifiner`, with a `grid` of one number that counts the class token too.
    """

    def together(self, x: Tensor, active: Tensor | None = None, *, prune_rows: bool = False) -> Connections:
        """Attention with all that the authors give out.

        Args:
            x: `(B, n, C)`, the class token first, n the `grid`.
            active: bool `(B, n - 1)`, tokens that were not pruned by an earlier layer; the others count as zeros and
                are chosen last.
            prune_rows: Whether tokens that were pruned look at nothing.
        """
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))  # (B, H, n, D)
        budget = ceil(self.keep * x.shape[1])
        real = None
        if active is not None:
            real = torch.cat([torch.ones_like(active[:, :1]), active], 1)  # (B, n)
            q, k, v = (part.masked_fill(~real[:, None, :, None], 0.0) for part in (q, k, v))
            budget = min(budget, int(active[0].sum()))
        places = None if real is None else real[:, None, :, None]
        scores = self._scores(q, k, places, self.pooling, self.basis)[..., 1:, :]  # (B, H, n - 1, n)
        hidden = scores if real is None else scores.masked_fill(~real[:, None, None], float("-inf"))
        chosen = self._chosen(hidden, None, budget)
        if active is not None and prune_rows:
            chosen = chosen & active[:, None, :, None]
        chosen = torch.cat([torch.ones_like(chosen[..., :1, :]), chosen], -2)
        weights = token_softmax(q @ k.transpose(-2, -1) * self.head_dim**-0.5, mask=chosen)
        return Connections(self.proj(join_heads(weights @ v, x.shape[1:-1])), weights, chosen, scores)
