"""ACMIL with multi-head attention, and its single branch: learned queries that look at the instances.

>>> import torch
>>> network = ChallengingHeads(24, 2, hidden=(16,), branches=5, heads=8)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, K, N)
(torch.Size([3, 2]), torch.Size([3, 5, 50]))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.acmil import branch_losses, similarity
from domains.medical.bags.networks.contract import Aggregator, BagOutput, Criterion, Embedding
from domains.medical.bags.networks.masking import hide_highest
from shared_attention.arguments import heads_of
from shared_attention.attend import token_softmax
from shared_attention.projections import join_heads, split_heads

__all__ = ["ChallengingHeads", "QueryBags"]

_EPS = 1e-6
_FIRST_QUERY = 1e-6
"""Deviation of a query at the start, as published: attention starts even."""


class _Look(nn.Module):
    """Values under given weights, projected and normalised; with a query also the weights' logits."""

    def __init__(self, dim: int, heads: int, dropout: float, *, asks: bool) -> None:
        super().__init__()
        self.heads, self.head_dim = heads_of(dim, heads)
        self.query = nn.Linear(dim, dim) if asks else None
        self.key = nn.Linear(dim, dim) if asks else None
        self.value = nn.Linear(dim, dim)
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim, eps=_EPS)

    def logits(self, query: Tensor, tokens: Tensor) -> Tensor:
        """`(B, H, 1, N)` from a query `(1, 1, D)` and tokens `(B, N, D)`."""
        assert self.query is not None
        assert self.key is not None
        q = split_heads(self.query(query), self.heads)  # (1, H, 1, d)
        k = split_heads(self.key(tokens), self.heads)  # (B, H, N, d)
        logits: Tensor = q @ k.transpose(-2, -1) * self.head_dim**-0.5
        return logits.to(torch.promote_types(logits.dtype, torch.float32))

    def forward(self, weights: Tensor, tokens: Tensor) -> Tensor:
        """`(B, D)` from weights `(B, H, 1, N)` and tokens `(B, N, D)`."""
        values = split_heads(self.value(tokens), self.heads)  # (B, H, N, d)
        out = join_heads(weights.to(values.dtype) @ values, (1,)).squeeze(1)  # (B, D)
        normalised: Tensor = self.norm(self.dropout(self.proj(out)))
        return normalised


class ChallengingHeads(Aggregator):
    """The multi-head variant of ACMIL (Zhang et al., ECCV 2024): a query, projections and a head for each branch.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of the layers that embed an instance; the last is divided among the heads.
        heads: Heads of each branch.
        branches: Branches, each with a learned query.
        masked: Highest instances of each head that may be hidden in training.
        mask_share: Share of them that is hidden; 0 hides none.
        diversity: Weight of the loss that keeps branches apart.
        bias: Whether the embedding has additive biases.
        dropout: Probability that a projected unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (512,),
        heads: int = 8,
        branches: int = 5,
        masked: int = 10,
        mask_share: float = 0.6,
        diversity: float = 1.0,
        bias: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes)
        if branches < 1:
            raise ValueError(f"branches {branches} is not above zero")
        self.masked, self.mask_share, self.diversity = masked, mask_share, diversity
        self.embed = Embedding(features, hidden, bias=bias)
        width = self.embed.width
        self.queries = nn.Parameter(torch.randn(1, branches, width) * _FIRST_QUERY)
        self.looks = nn.ModuleList([_Look(width, heads, dropout, asks=True) for _ in range(branches)])
        self.branch_heads = nn.ModuleList([nn.Linear(width, classes) for _ in range(branches)])
        self.bag_look = _Look(width, heads, dropout, asks=False)
        self.head = nn.Linear(width, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        real = None if mask is None else mask[:, None, None]  # (B, 1, 1, N)
        logits, weights, branches = [], [], []
        for number, (look, head) in enumerate(zip(self.looks, self.branch_heads, strict=True)):
            assert isinstance(look, _Look)
            query = self.queries[:, number : number + 1]  # (1, 1, D)
            scores = look.logits(query, tokens)  # (B, H, 1, N)
            if self.training:
                scores = hide_highest(scores, count=self.masked, share=self.mask_share, mask=real)
            logits.append(scores)
            weights.append(token_softmax(scores, mask=real))
            branches.append(head(look(weights[-1], tokens)))  # (B, classes)
        every = torch.cat(weights, 2)  # (B, H, K, N)
        bag = self.bag_look(every.mean(2, keepdim=True), tokens)  # (B, D)
        parts = {"branches": torch.stack(branches, 1), "attention_logits": torch.cat(logits, 2), "weights": every}
        return BagOutput(self.head(bag), every.mean(1), parts)

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """`loss` = `bag_loss` + `branch_loss` + diversity · `similarity`, the last a mean over heads."""
        return branch_losses(output, target, criterion, similarity(output.parts["weights"]), self.diversity)


class QueryBags(Aggregator):
    """One learned query that looks at the instances with several heads: multi-head attention pooling.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of the layers that embed an instance; the last is divided among the heads.
        heads: Heads.
        bias: Whether the embedding has additive biases.
        dropout: Probability that a projected unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (512,),
        heads: int = 8,
        bias: bool = False,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes)
        self.embed = Embedding(features, hidden, bias=bias)
        self.query = nn.Parameter(torch.randn(1, 1, self.embed.width) * _FIRST_QUERY)
        self.look = _Look(self.embed.width, heads, dropout, asks=True)
        self.head = nn.Linear(self.embed.width, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        scores = self.look.logits(self.query, tokens)  # (B, H, 1, N)
        weights = token_softmax(scores, mask=None if mask is None else mask[:, None, None])
        return BagOutput(self.head(self.look(weights, tokens)), weights.mean(1))
