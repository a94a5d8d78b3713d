"""From settings and a plan to a network."""

from __future__ import annotations

from domains.video.clip_action.encoders import FrameEncoder, SmallEncoder, StagedEfficientNet
from domains.video.clip_action.mixer_settings import make_mixer
from domains.video.clip_action.model_settings import CrossModalSettings, EncoderSettings, ModelSettings, SmallSettings
from domains.video.clip_action.network import ClipModel, SpaceTimeNetwork
from domains.video.clip_action.plan import ClipPlan
from pipelines.errors import ConfigurationError

__all__ = ["build_encoder", "build_network"]


def build_encoder(settings: EncoderSettings, grid: tuple[int, int], *, pretrained: bool = True) -> FrameEncoder:
    """The encoder of single frames.

    Args:
        settings: Which one.
        grid: Rows and columns of its maps.
        pretrained: Whether weights that the settings name are loaded; not where a model folder gives them.
    """
    if isinstance(settings, SmallSettings):
        return FrameEncoder(SmallEncoder(settings.channels), grid=grid)
    network = StagedEfficientNet(
        stages=settings.stages,
        pretrained=pretrained and settings.weights == "imagenet",
        frozen_stages=settings.frozen_stages,
    )
    return FrameEncoder(network, grid=grid, frozen=settings.frozen)


def build_network(settings: ModelSettings, plan: ClipPlan, *, pretrained: bool = True) -> ClipModel:
    """A fresh network. Raises `ConfigurationError` where it, or its mixer, refuses its arguments."""
    encoder = build_encoder(settings.encoder, settings.grid, pretrained=pretrained)
    arguments = settings.model_dump(exclude={"mixer", "encoder", "grid", "network"})
    classes = len(plan.classes)
    try:
        if isinstance(settings, CrossModalSettings):
            from domains.video.cross_modal.network import CrossModalNetwork

            arguments.pop("streams")
            return CrossModalNetwork(encoder, classes, **arguments)
        return SpaceTimeNetwork(encoder, classes, mixer=lambda dim: make_mixer(settings.mixer, dim), **arguments)
    except ValueError as error:
        raise ConfigurationError(f"model: it cannot be built: {error}") from error
