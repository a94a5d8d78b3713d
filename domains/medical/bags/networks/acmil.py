"""ACMIL with gated attention: several branches that are kept from looking at the same few instances.

>>> import torch
>>> network = ChallengingBags(24, 2, hidden=(16,), branches=5)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, K, N)
(torch.Size([3, 2]), torch.Size([3, 5, 50]))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Criterion, Embedding
from domains.medical.bags.networks.masking import hide_highest
from shared_attention.attend import token_softmax
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["ChallengingBags", "branch_losses", "similarity"]


class ChallengingBags(Aggregator):
    """Zhang et al., Attention-Challenging Multiple Instance Learning for Whole Slide Image Classification, ECCV 2024.

    Each branch has a head of its own in training; the bag is judged by the mean of the branches' attention.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of the layers that embed an instance.
        attention_hidden: Width of the hidden layer of the attention.
        branches: Branches of the attention; one is plain gated attention.
        masked: Highest instances of each branch that may be hidden in training.
        mask_share: Share of them that is hidden; 0 hides none.
        diversity: Weight of the loss that keeps branches apart.
        bias: Whether the embedding has additive biases.
        dropout: Probability that an embedded unit, or a hidden unit of the attention, is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (512,),
        attention_hidden: int = 128,
        branches: int = 5,
        masked: int = 10,
        mask_share: float = 0.6,
        diversity: float = 1.0,
        bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        self.masked, self.mask_share, self.diversity = masked, mask_share, diversity
        self.embed = Embedding(features, hidden, bias=bias, dropout=dropout)
        width = self.embed.width
        self.pool = GatedPool(width, rank=1, branches=branches, hidden=attention_hidden, dropout=dropout)
        self.branch_heads = nn.ModuleList([nn.Linear(width, classes) for _ in range(branches)])
        self.head = nn.Linear(width, classes)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        logits = self.pool.logits(tokens)  # (B, K, N)
        real = None if mask is None else mask.unsqueeze(1)  # (B, 1, N)
        if self.training:
            logits = hide_highest(logits, count=self.masked, share=self.mask_share, mask=real)
        weights = token_softmax(logits, mask=real)  # (B, K, N)
        pooled = weights.to(tokens.dtype) @ tokens  # (B, K, D)
        bag = weights.mean(1, keepdim=True).to(tokens.dtype) @ tokens  # (B, 1, D)
        branches = torch.stack([head(one) for head, one in zip(self.branch_heads, pooled.unbind(1), strict=True)], 1)
        parts = {"branches": branches, "attention_logits": logits, "bag": bag.squeeze(1)}
        return BagOutput(self.head(bag.squeeze(1)), weights, parts)

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """`loss` = `bag_loss` + `branch_loss` + diversity · `similarity`; of one branch, `bag_loss` alone."""
        assert output.attention is not None
        return branch_losses(output, target, criterion, similarity(output.attention), self.diversity)


def branch_losses(
    output: BagOutput, target: Tensor, criterion: Criterion, alike: Tensor, diversity: float
) -> dict[str, Tensor]:
    """The losses of a bag, of its branches (`parts["branches"]`, `(B, K, classes)`) and of their likeness."""
    bag = criterion(output.logits, target)
    branches = output.parts["branches"]
    if branches.shape[1] == 1:
        return {"loss": bag, "bag_loss": bag}
    branch = criterion(branches.flatten(0, 1), target.repeat_interleave(branches.shape[1], 0))
    return {"loss": bag + branch + diversity * alike, "bag_loss": bag, "branch_loss": branch, "similarity": alike}


def similarity(weights: Tensor) -> Tensor:
    """Mean cosine of the attention of each two branches, `(..., K, N)`: a scalar from 0 to 1; 0 for one branch."""
    count = weights.shape[-2]
    if count < 2:
        return weights.new_zeros(())
    unit = nn.functional.normalize(weights, dim=-1)  # (..., K, N)
    first, second = torch.triu_indices(count, count, 1, device=weights.device)
    return (unit @ unit.transpose(-2, -1))[..., first, second].mean()
