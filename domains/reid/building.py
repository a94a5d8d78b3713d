"""From settings to a network: where the attention core meets the backbones."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from domains.reid.attention_settings import make_mixer
from domains.reid.models.backbones import ConvolutionalFeatures, GateInMap, MixerInMap, TransformerFeatures
from domains.reid.models.dcal import DualCrossAttention
from domains.reid.models.embedder import Embedder
from domains.reid.models.vit import SIZES, VisionTransformer
from domains.reid.models.weights import load_official_vit, read_state
from domains.reid.settings import CnnSettings, HeadSettings, InputSettings, LossSettings, ModelSettings, VitSettings
from pipelines.config.section import Section
from pipelines.encoders.efficientnet import EfficientNetLite0, load_imagenet
from pipelines.errors import ConfigurationError
from shared_attention import card

__all__ = ["build_network", "build_vit"]


def build_network(
    model: ModelSettings,
    head: HeadSettings,
    loss: LossSettings,
    given: InputSettings,
    *,
    identities: int,
    sides: int = 0,
    pretrained: bool = True,
) -> Embedder:
    """A fresh network.

    Args:
        model: Backbone.
        head: Neck and classifier.
        loss: What is learned of the losses.
        given: Input size.
        identities: Identities (or classes) seen in training.
        sides: Cameras, views or pairs of both that the network is told of.
        pretrained: Whether to load the weights that the settings name; a network whose weights come from a model folder
            needs none.

    Raises:
        ConfigurationError: Settings do not fit together.
        DataError: Weights do not fit the network.
        EnvironmentProblem: The package with ImageNet weights is not installed.
    """
    branches = ["global"]
    if isinstance(model, CnnSettings):
        network = _convolutional(model, pretrained)
        backbone: nn.Module = ConvolutionalFeatures(network, pool=model.pool, stripes=model.stripes)
        dim, pairs = EfficientNetLite0.channels * model.stripes, False
    else:
        told = sides if model.cameras or model.views else 0
        backbone, dim = _transformer(model, given, told, pretrained)
        if model.dcal is not None and model.dcal.local:
            branches.append("local")
        pairs = model.dcal is not None and model.dcal.pairs
    return Embedder(
        backbone,
        dim,
        identities,
        branches=branches,
        pairs=pairs,
        neck=head.neck,
        cameras=sides if head.cameras else 0,
        margin=head.margin,
        scale=head.scale,
        dropout=head.dropout,
        served=head.served,
        centres=loss.centre > 0,
    )


def _convolutional(model: CnnSettings, pretrained: bool) -> EfficientNetLite0:
    named = model.attention.name
    gate = None if named == "none" else partial(_in_map, model.attention)
    network = EfficientNetLite0(
        last_stride=model.last_stride,
        drop=model.drop,
        frozen_stages=model.frozen_stages,
        frozen_norms=model.frozen_norms,
        gate=gate,
        gate_stages=model.attention_stages,
    )
    if pretrained and model.weights == "imagenet":
        load_imagenet(network)
    return network


def _in_map(settings: Section, channels: int) -> nn.Module:
    mixer = make_mixer(settings, channels)
    if card(settings.name).kind == "gate":  # type: ignore[attr-defined]
        return GateInMap(mixer)
    return MixerInMap(mixer, channels)


def build_vit(
    model: VitSettings, given: InputSettings, *, sides: int = 0, pretrained: bool = True
) -> tuple[VisionTransformer, int]:
    """A transformer without heads of its own, and the number of its attention heads; arguments of `build_network`."""
    dim, depth, heads = SIZES[model.width] if model.width else (model.dim, model.depth, model.heads)
    plain = model.attention.name == "full"
    mixer: Callable[..., nn.Module] | None = None if plain else partial(make_mixer, model.attention)
    try:
        vit = VisionTransformer(
            given.size,
            patch=model.patch,
            stride=model.stride,
            dim=dim,
            depth=depth,
            heads=heads,
            drop=model.drop,
            sides=sides,
            mixer=mixer,  # type: ignore[arg-type]
        )
    except ValueError as error:
        raise ConfigurationError(f"model: {error}") from error
    if pretrained and model.weights is not None:
        load_official_vit(vit, read_state(model.weights), source=model.weights.name)
    return vit, heads


def _transformer(model: VitSettings, given: InputSettings, sides: int, pretrained: bool) -> tuple[nn.Module, int]:
    vit, heads = build_vit(model, given, sides=sides, pretrained=pretrained)
    if model.dcal is None:
        return TransformerFeatures(vit), vit.dim
    dcal = model.dcal
    both = DualCrossAttention(
        vit, heads=heads, ratio=dcal.ratio, local=dcal.local, pairs=dcal.pairs, summary=dcal.summary
    )
    return both, vit.dim
