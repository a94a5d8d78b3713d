"""Genomics: scaling that is kept with the weights, and self-normalising layers.

>>> network = GenomicNetwork(7, DiscreteHead(4), widths=(16, 8))
>>> output = network(torch.zeros(3, 7))  # (B, F)
>>> output.hazards.shape, output.risk.shape
(torch.Size([3, 4]), torch.Size([3]))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.medical.survival.networks.contract import SurvivalNetwork, SurvivalOutput
from domains.medical.survival.networks.heads import DiscreteHead, ProportionalHead

__all__ = ["FeatureScaling", "GenomicNetwork", "SelfNormalising"]


class FeatureScaling(nn.Module):
    """Centres and scales each feature by what was measured on the training part; it is stored with the weights.

    Args:
        centre: `(F,)`.
        scale: `(F,)`, above zero.
        clip: Largest absolute value after scaling; None does not clip.
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, centre: Tensor, scale: Tensor, *, clip: float | None = None) -> None:
        super().__init__()
        self.register_buffer("centre", centre.float().clone())
        self.register_buffer("scale", scale.float().clone())
        self.clip = clip

    @classmethod
    def blank(cls, features: int, *, clip: float | None = None) -> FeatureScaling:
        """Changes nothing, until weights are loaded."""
        return cls(torch.zeros(features), torch.ones(features), clip=clip)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, F)` to `(B, F)` float32; a missing value becomes 0, what is usual in the training part."""
        scaled = (features.float() - self.centre) / self.scale
        scaled = torch.nan_to_num(scaled, nan=0.0)
        return scaled if self.clip is None else scaled.clamp(-self.clip, self.clip)


class SelfNormalising(nn.Sequential):
    """Layers of linear, ELU and alpha dropout (Klambauer, Self-Normalizing Neural Networks, 2017, with ELU as in MCAT).

    Weights start normal with variance one over the inputs, biases at zero.

    Args:
        inputs: Width of the input.
        widths: Width of each layer.
        dropout: Probability of alpha dropout, after each layer.
    """

    def __init__(self, inputs: int, widths: Sequence[int], *, dropout: float = 0.25) -> None:
        layers = []
        for width in widths:
            linear = nn.Linear(inputs, width)
            nn.init.normal_(linear.weight, std=inputs**-0.5)
            nn.init.zeros_(linear.bias)
            layers.append(nn.Sequential(linear, nn.ELU(), nn.AlphaDropout(dropout)))
            inputs = width
        super().__init__(*layers)
        self.width = inputs


class GenomicNetwork(SurvivalNetwork):
    """Self-normalising layers on all features at once (the SNN that MCAT compares itself with).

    Args:
        features: Width of the input.
        head: From the last layer to hazards.
        widths: Width of each layer; none for a linear model.
        dropout: Probability of alpha dropout.
        scaling: How features are scaled; as they are by default.
    """

    def __init__(
        self,
        features: int,
        head: DiscreteHead | ProportionalHead,
        *,
        widths: Sequence[int] = (256, 256),
        dropout: float = 0.25,
        scaling: FeatureScaling | None = None,
    ) -> None:
        super().__init__()
        self.scaling = scaling if scaling is not None else FeatureScaling.blank(features)
        self.layers = SelfNormalising(features, widths, dropout=dropout)
        self.output = nn.Linear(self.layers.width if widths else features, head.inputs)
        # Everyone starts with the same risk; what sets patients apart is learned.
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.head = head

    def forward(
        self, genomics: Tensor | None, bags: Tensor | None = None, mask: Tensor | None = None
    ) -> SurvivalOutput:
        """See `SurvivalNetwork`. Raises a ValueError without genomics."""
        if genomics is None:
            raise ValueError("this network looks at genomics, and there are none")
        return SurvivalOutput(*self.head(self.output(self.layers(self.scaling(genomics)))))
