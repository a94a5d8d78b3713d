"""CLAM: gated attention, with the instances it looks at most and least taught as positive and negative ones.

>>> import torch
>>> network = ClusteredBags(24, 2, hidden=16, attention_hidden=12, by_class=True)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, classes or 1, N)
(torch.Size([3, 2]), torch.Size([3, 2, 50]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Criterion, Embedding, class_targets
from shared_attention.attend import token_softmax
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["ClusteredBags"]


class ClusteredBags(Aggregator):
    """Lu et al., Data-efficient and weakly supervised computational pathology, Nature Biomedical Engineering 2021.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Width of an embedded instance.
        attention_hidden: Width of the hidden layer of the attention.
        by_class: An attention branch for each class (CLAM-MB) instead of one for all (CLAM-SB).
        gated: Whether the attention has the sigmoid gate.
        instances: How many of the highest and of the lowest instances are taught.
        subtyping: Whether classes exclude one another, so that the highest instances of a class that a bag is not of
            are taught as negative; None: where there are more than two classes.
        bag_weight: Share of the bag in the loss; the rest is that of the instances.
        sink: Weights of `exp(x) / (1 + Σ exp(x))`, which leave a rest, as ACMIL's code has them in CLAM-MB.
        dropout: Probability that an embedded unit, or a hidden unit of the attention, is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: int = 512,
        attention_hidden: int = 256,
        by_class: bool = False,
        gated: bool = True,
        instances: int = 8,
        subtyping: bool | None = None,
        bag_weight: float = 0.7,
        sink: bool = False,
        dropout: float = 0.25,
    ) -> None:
        super().__init__(features, classes)
        if instances < 1:
            raise ValueError(f"instances {instances} is not above zero")
        self.attends_by_class = by_class  # type: ignore[misc]  # one class serves both published networks
        self.instances, self.bag_weight, self.sink = instances, bag_weight, sink
        self.subtyping = classes > 2 if subtyping is None else subtyping
        self.embed = Embedding(features, (hidden,), dropout=dropout)
        branches = classes if by_class else 1
        self.pool = GatedPool(hidden, rank=1, branches=branches, hidden=attention_hidden, gated=gated, dropout=dropout)
        heads = [nn.Linear(hidden, 1) for _ in range(classes)] if by_class else [nn.Linear(hidden, classes)]
        self.heads = nn.ModuleList(heads)
        self.instance_heads = nn.ModuleList([nn.Linear(hidden, 2) for _ in range(classes)])

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        logits = self.pool.logits(tokens)  # (B, K, N)
        weights = token_softmax(logits, mask=None if mask is None else mask.unsqueeze(1))
        shares = weights
        if self.sink:  # exp(x) / (1 + Σ exp(x)) is the softmax times σ(log Σ exp(x))
            shown = logits if mask is None else logits.masked_fill(~mask.unsqueeze(1), -torch.inf)
            shares = weights * shown.logsumexp(-1, keepdim=True).sigmoid()
        pooled = shares.to(tokens.dtype) @ tokens  # (B, K, D)
        out = torch.cat([head(one) for head, one in zip(self.heads, pooled.unbind(1), strict=True)], -1)
        counts = mask.sum(1) if mask is not None else weights.new_full((len(bags),), bags.shape[1], dtype=torch.int64)
        parts = {"tokens": tokens, "attention_logits": logits, "bag": pooled, "counts": counts}
        return BagOutput(out, weights, parts)

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """`loss` = w · `bag_loss` + (1 - w) · `instance_loss`."""
        bag = criterion(output.logits, target)
        if self.bag_weight >= 1:
            return {"loss": bag, "bag_loss": bag}
        instance = self.instance_loss(output, target)
        loss = self.bag_weight * bag + (1 - self.bag_weight) * instance
        return {"loss": loss, "bag_loss": bag, "instance_loss": instance}

    def instance_loss(self, output: BagOutput, target: Tensor) -> Tensor:
        """Mean over bags of the cross-entropy of the instances that are taught; a bag with fewer teaches all it has."""
        assert output.attention is not None
        wanted = class_targets(target, self.classes).tolist()
        total = output.logits.new_zeros(())
        for bag, (tokens, weights, count) in enumerate(
            zip(output.parts["tokens"], output.attention, output.parts["counts"].tolist(), strict=True)
        ):
            of_bag = output.logits.new_zeros(())
            for number, head in enumerate(self.instance_heads):
                row = weights[number if self.attends_by_class else 0, :]
                if wanted[bag][number]:
                    of_bag = of_bag + self._taught(head, tokens[:count], row[:count], lowest=True)
                elif self.subtyping:
                    of_bag = of_bag + self._taught(head, tokens[:count], row[:count], lowest=False)
            total = total + (of_bag / self.classes if self.subtyping else of_bag)
        return total / len(wanted)

    def _taught(self, head: nn.Module, tokens: Tensor, weights: Tensor, *, lowest: bool) -> Tensor:
        """Highest as positive and lowest as negative; or, of another class, the highest as negative."""
        count = min(self.instances, len(weights))
        chosen = weights.topk(count).indices
        targets = torch.full((count,), int(lowest), device=weights.device)
        if lowest:
            chosen = torch.cat([chosen, (-weights).topk(count).indices])
            targets = torch.cat([targets, torch.zeros_like(targets)])
        return functional.cross_entropy(head(tokens[chosen]), targets)
