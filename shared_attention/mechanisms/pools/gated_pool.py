"""A few weighted means of all tokens, the weights scored by a small gated network (attention-based MIL).

>>> import torch
>>> from shared_attention import build
>>> pool = build("gated_pool", 64, rank=1, kind="pool", branches=3)
>>> x = torch.zeros(2, 50, 64)  # (B, N, C)
>>> pool(x).shape, pool.weights(x).shape  # (B, K, C), (B, K, N)
(torch.Size([2, 3, 64]), torch.Size([2, 3, 50]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import positive
from shared_attention.attend import token_softmax
from shared_attention.contract import Pool
from shared_attention.registry import Card, Source, register

__all__ = ["GatedPool"]


@register(
    Card(
        name="gated_pool",
        title="Gated attention pooling (ABMIL)",
        paper="Ilse et al., Attention-based Deep Multiple Instance Learning, ICML 2018",
        year=2018,
        kind="pool",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="2*N*C*hidden + N*hidden*branches + N*C*branches",
        formula="w_k = softmax_N(a_k · (tanh(V x) ⊙ σ(U x)))            (N) weights of branch k\ny_k = Σ_i w_ki x_i",
        source=Source("AMLab-Amsterdam/AttentionDeepMIL", "eb0434b", "MIT"),
        notes="Weights are computed with at least 32 bits, since they are divided among all tokens of a bag. Several "
        "branches share the hidden layer and differ in the last one, as in CLAM and ACMIL.",
        small={"branches": 2, "hidden": 8},
    )
)
class GatedPool(Pool):
    """Softmax over tokens of `wᵀ(tanh(V x) ⊙ σ(U x))`, and the mean of the tokens under these weights.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        branches: Means `K`, each with weights of its own.
        hidden: Width of the hidden layer.
        gated: Whether the sigmoid gate is there; without it the hidden layer is `tanh(V x)` alone.
        dropout: Probability that a hidden unit is dropped in training.
    """

    def __init__(
        self, dim: int, *, rank: int, branches: int = 1, hidden: int = 128, gated: bool = True, dropout: float = 0.0
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("branches", branches)
        positive("hidden", hidden)
        self.dropout = dropout
        self.content = nn.Linear(dim, hidden)
        self.gate = nn.Linear(dim, hidden) if gated else None
        self.score = nn.Linear(hidden, branches)

    def logits(self, x: Tensor) -> Tensor:
        """Scores of all tokens `(B, K, N)`, before the softmax; padded tokens have one too."""
        tokens = x.flatten(1, -2)  # (B, N, C)
        hidden = functional.dropout(self.content(tokens).tanh(), self.dropout, self.training)  # (B, N, hidden)
        if self.gate is not None:
            hidden = hidden * functional.dropout(self.gate(tokens).sigmoid(), self.dropout, self.training)
        scores = self.score(hidden).transpose(1, 2)  # (B, K, N)
        return scores.to(torch.promote_types(scores.dtype, torch.float32))

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights `(B, K, N)`: each branch sums to one, over real tokens; padded tokens of `x` are zero."""
        return token_softmax(self.logits(x), mask=None if mask is None else mask.flatten(1).unsqueeze(1))

    def pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.weights(x, mask).to(x.dtype) @ x.flatten(1, -2)  # (B, K, C)
