"""What every survival network takes and gives.

    genomics (B, F), bags (B, N, C), mask (B, N)  ->  hazards (B, K), risk (B,)

A network for one of the two modalities passes over the other.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["SurvivalNetwork", "SurvivalOutput"]


class SurvivalOutput(NamedTuple):
    """What a network says of a batch of patients.

    Attributes:
        hazards: `(B, K)` float32, probability of the event in each interval for who entered it.
        risk: `(B,)` float32, higher for an earlier event.
        losses: What a network asks for besides the likelihood, by name; scalars.
    """

    hazards: Tensor
    risk: Tensor
    losses: Mapping[str, Tensor] = {}


class SurvivalNetwork(nn.Module, ABC):
    """A network that gives a patient hazards."""

    @abstractmethod
    def forward(
        self, genomics: Tensor | None, bags: Tensor | None = None, mask: Tensor | None = None
    ) -> SurvivalOutput:
        """Looks at patients.

        Args:
            genomics: `(B, F)` as measured, NaN where a value is missing; None for a network of slides alone.
            bags: `(B, N, C)`; None for a network of genomics alone.
            mask: bool `(B, N)`, True for a real instance; None where all are real.
        """
