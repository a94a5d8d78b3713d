"""DSMIL: every instance is scored, and the highest of each class asks the others.

>>> import torch
>>> network = DualStreamBags(24, 2)
>>> output = network(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, classes, N)
(torch.Size([3, 2]), torch.Size([3, 2, 50]))
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from domains.medical.bags.networks.contract import Aggregator, BagOutput, Criterion, Embedding
from shared_attention.attend import token_softmax

__all__ = ["DualStreamBags"]


class DualStreamBags(Aggregator):
    """Li et al., Dual-stream Multiple Instance Learning Network for Whole Slide Image Classification, CVPR 2021.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Widths of layers that embed an instance first; none, as published, for the instances as they are.
        query: Width of a query.
        query_hidden: Width of the layer before it; None for a query that is linear in the instance.
        values: Whether values are a learned layer of the instances instead of the instances.
        dropout: Probability that a unit of an instance is dropped in training before that layer.
    """

    attends_by_class: ClassVar[bool] = True

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: Sequence[int] = (),
        query: int = 128,
        query_hidden: int | None = 128,
        values: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(features, classes)
        self.embed = Embedding(features, hidden)
        width = self.embed.width
        self.instance_head = nn.Linear(width, classes)
        if query_hidden is None:
            self.query: nn.Module = nn.Linear(width, query)
        else:
            self.query = nn.Sequential(
                nn.Linear(width, query_hidden), nn.ReLU(), nn.Linear(query_hidden, query), nn.Tanh()
            )
        self.value = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, width), nn.ReLU()) if values else None
        self.scale = query**-0.5
        self.mix = nn.Conv1d(classes, classes, kernel_size=width)

    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        tokens = self.embed(bags)  # (B, N, D)
        scores = self.instance_head(tokens)  # (B, N, classes)
        shown = scores if mask is None else scores.masked_fill(~mask.unsqueeze(-1), -torch.inf)
        highest, critical = shown.max(1)  # (B, classes)
        queries = self.query(tokens)  # (B, N, Q)
        asking = queries.gather(1, critical.unsqueeze(-1).expand(-1, -1, queries.shape[-1]))  # (B, classes, Q)
        logits = asking @ queries.transpose(1, 2) * self.scale  # (B, classes, N)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        weights = token_softmax(logits, mask=None if mask is None else mask.unsqueeze(1))
        values = tokens if self.value is None else self.value(tokens)
        bag = weights.to(values.dtype) @ values  # (B, classes, D)
        parts = {"instances": scores, "highest": highest, "attention_logits": logits, "bag": bag}
        return BagOutput(self.mix(bag).squeeze(-1), weights, parts)

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """`loss` = half of `bag_loss` and half of `instance_loss`, which is that of each class's highest instance."""
        bag, instance = criterion(output.logits, target), criterion(output.parts["highest"], target)
        return {"loss": (bag + instance) / 2, "bag_loss": bag, "instance_loss": instance}
