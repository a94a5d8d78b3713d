"""The `model:` section: the encoder of frames, what mixes their tokens over space and time, and the pool."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from domains.video.clip_action.mixer_settings import MixerSettings, mixer_named
from pipelines.config.section import Section

__all__ = [
    "CrossModalSettings",
    "EncoderSettings",
    "ModelSettings",
    "PoolName",
    "PretrainedSettings",
    "SmallSettings",
    "SpaceTimeSettings",
]

PoolName = Literal["mean", "max", "attention", "frames"]
StreamName = Literal["rgb", "motion"]


class PretrainedSettings(Section):
    """EfficientNet-lite0."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """Network."""
    weights: Literal["imagenet", "none"] = "imagenet"
    """Where training starts: from ImageNet (weights that are installed, nothing is downloaded), or at random."""
    stages: int = Field(default=8, ge=1, le=8)
    """How much of it is used: so many of its 7 stages, or 8 with the last convolution (1280 channels, stride 32)."""
    frozen: bool = True
    """Whether all weights stay as they are; features are then computed once, and an epoch takes seconds."""
    frozen_stages: int = Field(default=0, ge=0, le=8)
    """Without `frozen`: the stem and so many stages keep their weights."""

    @model_validator(mode="after")
    def _can_be_frozen(self) -> Self:
        if self.frozen and self.weights == "none":
            raise ValueError("frozen random weights learn nothing: set frozen false, or weights imagenet")
        return self


class SmallSettings(Section):
    """A few convolutions, from scratch."""

    name: Literal["small"] = "small"
    """Network."""
    channels: tuple[Annotated[int, Field(ge=4, le=1024)], ...] = Field(default=(24, 48, 96), min_length=1, max_length=5)
    """Channels of each layer; each halves rows and columns, after a stem that halves them once."""


EncoderSettings = Annotated[PretrainedSettings | SmallSettings, Field(discriminator="name")]
"""The encoder of single frames, by name."""


class _Common(Section):
    encoder: EncoderSettings = PretrainedSettings()
    """What sees single frames, by name."""
    grid: tuple[Annotated[int, Field(ge=1, le=32)], Annotated[int, Field(ge=1, le=32)]] = (3, 3)
    """Rows and columns of tokens that are left of each frame."""
    dim: int = Field(default=64, ge=8, le=1024)
    """Channels of a token."""
    depth: int = Field(default=1, ge=0, le=24)
    """Blocks."""
    expansion: float = Field(default=2.0, gt=0, le=8)
    """Width of a feed-forward part over `dim`."""
    dropout: float = Field(default=0.3, ge=0, lt=1)
    """Probability that a channel is dropped in training."""


class SpaceTimeSettings(_Common):
    """Tokens of all frames, mixed over space and time and pooled."""

    network: Literal["space_time"] = "space_time"
    """Network."""
    streams: tuple[StreamName, ...] = Field(default=("rgb",), min_length=1, max_length=2)
    """What is seen: the frames, the difference of frames a moment apart, or both."""
    fusion: Literal["early", "late"] = "late"
    """Two streams: tokens are added before the blocks, or each stream has blocks and a decision of its own, and
    logits are averaged."""
    mixer: MixerSettings = mixer_named("full")
    """What mixes the tokens of time × rows × columns, by name."""
    pool: PoolName = "attention"
    """`mean` or `max` of all tokens, `attention` (gated weights), or `frames`: the mean within each frame, then the
    greatest and the mean over time, side by side."""
    drop_path: float = Field(default=0.0, ge=0, lt=1)
    """Share of clips for which the last block is left out in training."""

    @field_validator("streams", mode="before")
    @classmethod
    def _no_poses(cls, streams: Any) -> Any:
        if isinstance(streams, (list, tuple)) and "pose" in streams:
            raise ValueError("poses are looked at by `network: cross_modal` alone; rgb and motion are allowed here")
        return streams

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        if len(set(self.streams)) < len(self.streams):
            raise ValueError(f"a stream stands twice: {', '.join(self.streams)}")
        return self


class CrossModalSettings(_Common):
    """The deformable cross-modal transformer (Kim et al., 2023), reconstructed: RGB and a second modality meet in two
    tokens."""

    network: Literal["cross_modal"] = "cross_modal"
    """Network."""
    streams: tuple[Literal["rgb"], Literal["motion", "pose"]] = ("rgb", "motion")
    """What is seen: frames, and as the second modality motion or the poses of persons."""
    stride: int = Field(default=2, ge=1, le=16)
    """Distance of the reference points of deformable attention, in tokens of time, rows and columns."""
    joint_stride: int = Field(default=3, ge=1, le=32)
    """Stride of joints, or of places of the motion picture, that look at one another."""
    heads: int | None = Field(default=None, ge=1)
    """Heads of every attention; null for heads of about 32 channels."""
    drop_rgb: float = Field(default=0.0, ge=0, lt=1)
    """Share of training clips whose frames are blanked: where there are few videos, the network else learns their
    places by heart and leaves the second modality alone."""


ModelSettings = Annotated[SpaceTimeSettings | CrossModalSettings, Field(discriminator="network")]
"""The network, by `network`."""
