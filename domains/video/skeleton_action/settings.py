"""The sections that a workflow of actions from skeletons adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from domains.video.skeleton_action.mixer_settings import MixerSettings, mixer_named
from domains.video.skeleton_action.streams import STREAMS, StreamName
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "AugmentSettings",
    "ClipSettings",
    "DataSettings",
    "InferenceSettings",
    "LossSettings",
    "ModelSettings",
    "SkeletonWorkflow",
]

Share = Annotated[float, Field(ge=0, le=1)]


class DataSettings(Section):
    """Where the skeletons come from."""

    file: FilePath
    """The `.npz` that `pulvinar video convert` writes, or one of the formats it reads."""
    joints: str = ""
    """Which joints the file holds, where it does not say: `coco17`, `jhmdb15`, `lsp14`, `ntu25`, `posetrack17`, or a
    JSON file that describes a set."""
    classes: FilePath | None = None
    """Text file with a class name in each line, where the file has numbers alone."""
    published_split: str = ""
    """Which of the splits to keep that an MMAction2 file holds, such as `sub1`."""


class ClipSettings(Section):
    """What one sample is."""

    frames: int = Field(default=32, ge=8, le=512)
    """Frames that a clip is resampled to, whatever its length."""
    persons: int = Field(default=1, ge=1, le=10)
    """Persons that are looked at: those that are seen in most frames and joints."""


class AugmentSettings(Section):
    """How training clips are changed."""

    enabled: bool = True
    """Whether they are changed at all."""
    flip: Share = 0.5
    """Share of clips whose left and right are swapped."""
    shortest: float = Field(default=0.6, gt=0, le=1)
    """Smallest share of a clip that is cut out, before it is resampled."""
    rotation: float = Field(default=15.0, ge=0, le=180)
    """Largest turn in degrees."""
    scale: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.85, 1.15)
    """Smallest and largest factor of each axis."""
    shear: float = Field(default=0.1, ge=0, le=1)
    """Largest share of one axis that is added to another."""
    noise: float = Field(default=0.02, ge=0, le=1)
    """Deviation of the noise on each joint, as a share of the body's size."""

    @field_validator("scale")
    @classmethod
    def _in_order(cls, scale: tuple[float, float]) -> tuple[float, float]:
        if scale[0] > scale[1]:
            raise ValueError(f"the smallest factor {scale[0]} is above the largest {scale[1]}")
        return scale


class ModelSettings(Section):
    """The space-time transformer."""

    streams: tuple[StreamName, ...] = Field(default=STREAMS, min_length=1)
    """What is seen of a skeleton: places, bones, motions, distances."""
    fusion: Literal["early", "late"] = "early"
    """Early: the first layer of one network sees all streams. Late: each stream has a network of its own, and their
    probabilities are averaged; as many times the parameters and the time."""
    mixer: MixerSettings = mixer_named("full")
    """What mixes the tokens of time × joints, by name."""
    dim: int = Field(default=64, ge=8, le=1024)
    """Channels of a token."""
    depth: int = Field(default=3, ge=1, le=24)
    """Blocks."""
    expansion: float = Field(default=2.0, gt=0, le=8)
    """Width of a feed-forward part over `dim`."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Probability that a channel is dropped in training."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Share of clips for which the last block is left out in training."""

    @field_validator("streams")
    @classmethod
    def _each_once(cls, streams: tuple[StreamName, ...]) -> tuple[StreamName, ...]:
        if len(set(streams)) < len(streams):
            raise ValueError(f"a stream stands twice: {', '.join(streams)}")
        return streams


class LossSettings(Section):
    """Cross-entropy of the clip."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""


class InferenceSettings(Section):
    """How a clip is judged."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "fp32"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""
    mirror: bool = True
    """Whether probabilities are averaged with those of the mirrored clip, where the set of joints has mirror images."""
    importance_table: bool = True
    """Whether the importance of every joint over time is written."""


class SkeletonWorkflow(WorkflowConfig):
    """A workflow of actions from skeletons."""

    data: DataSettings
    """Where the skeletons come from."""
    clip: ClipSettings = ClipSettings()
    """What one sample is."""
    augment: AugmentSettings = AugmentSettings()
    """How training clips are changed."""
    model: ModelSettings = ModelSettings()
    """The network."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    infer: InferenceSettings = InferenceSettings()
    """How a clip is judged."""
