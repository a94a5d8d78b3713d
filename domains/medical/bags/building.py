"""From settings and a plan to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from domains.medical.bags.model_settings import Mixer, ModelSettings
from domains.medical.bags.networks.abmil import AttentionBags
from domains.medical.bags.networks.acmil import ChallengingBags
from domains.medical.bags.networks.acmil_heads import ChallengingHeads, QueryBags
from domains.medical.bags.networks.clam import ClusteredBags
from domains.medical.bags.networks.contract import Aggregator, BagOutput
from domains.medical.bags.networks.dsmil import DualStreamBags
from domains.medical.bags.networks.dtfd import DoubleTierBags
from domains.medical.bags.networks.mixer import MixedBags
from domains.medical.bags.networks.pooled import PooledBags
from domains.medical.bags.networks.transmil import TransformerBags
from pipelines.errors import ConfigurationError
from shared_attention import TokenMixer, build

__all__ = ["NETWORKS", "BagNetwork", "build_network"]

NETWORKS: Mapping[str, type[Aggregator]] = {
    "mean": PooledBags,
    "max": PooledBags,
    "abmil": AttentionBags,
    "acmil": ChallengingBags,
    "acmil_heads": ChallengingHeads,
    "query": QueryBags,
    "clam": ClusteredBags,
    "dsmil": DualStreamBags,
    "transmil": TransformerBags,
    "dtfd": DoubleTierBags,
    "mixer": MixedBags,
}
"""Name in a workflow → network."""


class BagNetwork(nn.Module):
    """A bag network behind standardised features; mean and deviation are part of its weights.

    Args:
        network: What sees the standardised features.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: Aggregator) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.zeros(network.features))
        self.register_buffer("deviation", torch.ones(network.features))

    def forward(self, bags: Tensor, mask: Tensor | None = None) -> BagOutput:
        """As `Aggregator.forward`."""
        output: BagOutput = self.network((bags - self.mean) / self.deviation, mask)
        return output


def build_network(settings: ModelSettings, *, features: int, classes: int) -> BagNetwork:
    """A fresh network.

    Raises:
        ConfigurationError: The network refuses its arguments.
    """
    arguments: dict[str, Any] = settings.model_dump(exclude={"name", "mixer"})
    if settings.name in ("mean", "max"):
        arguments["pooling"] = settings.name
    if isinstance(settings, Mixer):
        inner = settings.mixer.model_dump()
        name = inner.pop("name")
        arguments["mixer"] = lambda dim: _mixer(name, dim, inner)
    try:
        return BagNetwork(NETWORKS[settings.name](features, classes, **arguments))
    except ValueError as error:
        raise ConfigurationError(f"model: {settings.name} cannot be built: {error}") from error


def _mixer(name: str, dim: int, arguments: Mapping[str, Any]) -> TokenMixer:
    made: TokenMixer = build(name, dim, rank=1, **arguments)
    return made
