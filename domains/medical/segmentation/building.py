"""From settings and a plan to a network: where the attention core meets the U-net."""

from __future__ import annotations

from functools import partial

from domains.medical.segmentation.network import ResidualUNet
from domains.medical.segmentation.plan import Plan
from domains.medical.segmentation.settings import ModelSettings
from pipelines.errors import ConfigurationError
from shared_attention import TokenMixer, build

__all__ = ["build_network"]


def build_network(settings: ModelSettings, plan: Plan) -> ResidualUNet:
    """A fresh network.

    Raises:
        ConfigurationError: The mechanism refuses its arguments or the channels of a level.
    """
    levels = len(settings.channels)
    attention = settings.attention.model_dump()
    name = attention.pop("name")
    mixer = None if name == "none" else partial(_mixer, name, plan.preprocessing.rank, attention)
    depths = settings.depths
    return ResidualUNet(
        plan.preprocessing.channels,
        plan.classes.count,
        channels=settings.channels,
        strides=plan.strides,
        depths=(depths,) * levels if isinstance(depths, int) else depths,
        supervised=settings.deep_supervision,
        dropout=settings.dropout,
        mixer=mixer,
        mixer_levels=[levels - 1 if level == "bottleneck" else level for level in settings.attention_levels],
    )


def _mixer(name: str, rank: int, arguments: dict[str, object], channels: int) -> TokenMixer:
    try:
        made: TokenMixer = build(name, channels, rank=rank, **arguments)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"model.attention: {name} cannot be built for {channels} channels and {rank} axes: {error}"
        ) from error
    return made
