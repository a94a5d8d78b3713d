"""Slides alone: a network of bags whose classes are the inputs of a survival head.

>>> network = SlideNetwork(24, DiscreteHead(4), hidden=16)
>>> network(None, torch.zeros(2, 30, 24)).hazards.shape  # (B, N, C)
torch.Size([2, 4])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from domains.medical.bags.networks.abmil import AttentionBags
from domains.medical.bags.networks.contract import Aggregator
from domains.medical.bags.networks.transmil import TransformerBags
from domains.medical.survival.networks.contract import SurvivalNetwork, SurvivalOutput
from domains.medical.survival.networks.heads import DiscreteHead, ProportionalHead

__all__ = ["SlideNetwork"]


class SlideNetwork(SurvivalNetwork):
    """Gated attention (ABMIL) or TransMIL over the instances of a patient's slides.

    Args:
        features: Width `C` of an instance.
        head: From the last layer to hazards.
        aggregator: `gated` or `transmil`.
        hidden: Width of an embedded instance.
        dropout: Probability that an embedded unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        head: DiscreteHead | ProportionalHead,
        *,
        aggregator: Literal["gated", "transmil"] = "gated",
        hidden: int = 256,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.aggregator: Aggregator = (
            AttentionBags(features, head.inputs, hidden=(hidden,), dropout=dropout)
            if aggregator == "gated"
            else TransformerBags(features, head.inputs, hidden=hidden, dropout=dropout)
        )
        self.head = head

    def forward(
        self, genomics: Tensor | None, bags: Tensor | None = None, mask: Tensor | None = None
    ) -> SurvivalOutput:
        """See `SurvivalNetwork`. Raises a ValueError without slides."""
        if bags is None:
            raise ValueError("this network looks at slides, and there are none")
        hazards, risk = self.head(self.aggregator(bags, mask).logits)
        return SurvivalOutput(hazards, risk)
