"""DTFD-MIL: pseudo-bags of a bag in a first tier, what they distil in a second.

>>> import torch
>>> network = DoubleTierBags(24, 2, hidden=16, attention_hidden=12)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, 1, N)
(torch.Size([3, 2]), torch.Size([3, 1, 50]))
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.contract import BagOutput, Criterion, Embedding
from domains.medical.bags.networks.one_by_one import OneByOne
from shared_attention.attend import token_softmax
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["DoubleTierBags"]

Distilled = Literal["max_min", "max", "features"]


class DoubleTierBags(OneByOne):
    """Zhang et al., DTFD-MIL: Double-Tier Feature Distillation Multiple Instance Learning, CVPR 2022.

    The published code trains each tier with its own optimizer, and the second tier's loss moves nothing of the first;
    here the features that go to the second tier are detached, which is the same with one optimizer.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Width of an embedded instance.
        attention_hidden: Width of the hidden layers of the attention.
        groups: Pseudo-bags.
        instances: Instances that are distilled from all pseudo-bags together, as many from each.
        distilled: The highest and lowest instances by their probability of the last class (`max_min`), the highest
            (`max`), or each pseudo-bag's features (`features`).
        shuffled: Whether pseudo-bags are drawn at random: anew in training, always alike in evaluation. Else they are
            neighbouring instances.
        dropout: Probability that a pooled unit is dropped in training before a tier's head.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: int = 512,
        attention_hidden: int = 128,
        groups: int = 4,
        instances: int = 4,
        distilled: Distilled = "max_min",
        shuffled: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        if groups < 1 or instances < groups:
            raise ValueError(f"groups {groups} and instances {instances}: at least one group, one instance for each")
        self.groups, self.instances, self.distilled, self.shuffled = groups, instances, distilled, shuffled
        self.embed = Embedding(features, (hidden,), bias=False)
        self.pool = GatedPool(hidden, rank=1, hidden=attention_hidden)
        self.group_head = nn.Linear(hidden, classes)
        self.second_pool = GatedPool(hidden, rank=1, hidden=attention_hidden)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(hidden, classes)

    def look_at(self, bag: Tensor) -> BagOutput:
        groups, kept, logits = self.distil(bag)
        seen = kept.detach() if self.training else kept
        out = self.head(self.dropout(self.second_pool(seen.unsqueeze(0)).squeeze(1)))  # (1, classes)
        # A bag smaller than the groups has fewer: the mean of what there is fills up, so that bags can be stacked.
        missing = self.groups - len(groups)
        full = torch.cat([groups, groups.mean(0, keepdim=True).expand(missing, -1)])
        return BagOutput(out, token_softmax(logits)[None, None], {"groups": full})

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """`loss` = `group_loss` of the first tier + `bag_loss` of the second."""
        groups = output.parts["groups"]  # (B, groups, classes)
        bag = criterion(output.logits, target)
        group = criterion(groups.flatten(0, 1), target.repeat_interleave(groups.shape[1], 0))
        return {"loss": bag + group, "bag_loss": bag, "group_loss": group}

    def distil(self, bag: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The first tier on a bag `(N, F)`.

        Returns:
            Logits of the pseudo-bags `(groups, classes)`, what the second tier sees `(n, D)`, and the logits of the
            attention to all instances `(N,)`.
        """
        tokens = self.embed(bag)  # (N, D)
        logits = self.pool.logits(tokens.unsqueeze(0))[0, 0]  # (N,)
        groups, kept = [], []
        for members in self._groups(len(bag), bag.device):
            inside = tokens[members]  # (n, D)
            weighted = inside * token_softmax(logits[members]).to(inside.dtype).unsqueeze(-1)  # (n, D)
            pooled = weighted.sum(0)  # (D,)
            groups.append(self.group_head(self.dropout(pooled)))
            kept.append(self._distil(inside, weighted, pooled))
        return torch.stack(groups), torch.cat(kept), logits

    def _groups(self, count: int, device: torch.device) -> list[Tensor]:
        if not self.shuffled:
            order = torch.arange(count, device=device)
        elif self.training:
            order = torch.randperm(count, device=device)
        else:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).to(device)
        return [members for members in order.tensor_split(self.groups) if len(members)]

    def _distil(self, inside: Tensor, weighted: Tensor, pooled: Tensor) -> Tensor:
        """`(n, D)`: instances chosen by the class activation of what they add to the pooled features."""
        if self.distilled == "features":
            return pooled.unsqueeze(0)
        activation = weighted @ self.group_head.weight.t()  # (n, classes), the bias left out
        likely = activation.softmax(-1)[:, -1].argsort(descending=True)
        each = self.instances // self.groups
        chosen = torch.cat([likely[:each], likely[-each:]]) if self.distilled == "max_min" else likely[:each]
        return inside[chosen]
