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


def build_network(settings: ModelSettings, plan: ClipPlan, *, persons: int = 1, pretrained: bool = True) -> ClipModel:
    """A fresh network.

    Args:
        settings: Which one.
        plan: Classes, and the joints of poses where these are the second modality.
        persons: Persons of a pose.
        pretrained: Whether weights that the settings name are loaded.

    Raises:
        ConfigurationError: It, or its mixer, refuses its arguments.
    """
    encoder = build_encoder(settings.encoder, settings.grid, pretrained=pretrained)
    arguments = settings.model_dump(exclude={"mixer", "encoder", "grid", "network"})
    classes = len(plan.classes)
    try:
        if isinstance(settings, CrossModalSettings):
            from domains.video.cross_modal.network import CrossModalNetwork

            poses = plan.joints if "pose" in arguments.pop("streams") else None
            known = {} if poses is None else {"joints": len(poses), "persons": persons}
            return CrossModalNetwork(encoder, classes, **known, **arguments)
        return SpaceTimeNetwork(encoder, classes, mixer=lambda dim: make_mixer(settings.mixer, dim), **arguments)
    except ValueError as error:
        raise ConfigurationError(f"model: it cannot be built: {error}") from error
