"""The sections that a bag workflow adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from domains.medical.bags.model_settings import Abmil, ModelSettings
from domains.medical.slides.encoder_settings import EfficientNetLite0, EncoderSettings
from pipelines.casetables import TableData
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "ArraysData",
    "BagWorkflow",
    "DataSettings",
    "FeatureSettings",
    "InferenceSettings",
    "LossSettings",
    "SlideInference",
    "TargetSettings",
]

ClassName = Annotated[str, Field(min_length=1, pattern=r"^[^/;]+$")]


class ArraysData(Section):
    """One `.npz` with all bags: `X` (instances, features), `bag_id` of each instance, `bag_ids` and `bag_label`."""

    format: Literal["arrays"] = "arrays"
    """All bags in one file of arrays."""
    file: FilePath
    """The `.npz` file."""


DataSettings = Annotated[TableData | ArraysData, Field(discriminator="format")]
"""Where the bags come from, by `format`."""


class TargetSettings(Section):
    """What is learned of each bag."""

    label: str | Annotated[tuple[ClassName, ...], Field(min_length=1)] = "label"
    """Column of the table that holds the class; or several columns of 0 and 1, for a bag that can be of several."""
    classes: dict[ClassName, int | str] = Field(default={})
    """Class name → value in that column. Empty: every value is a class of its own, in sorted order. The last of two
    classes is the positive one."""

    @field_validator("classes")
    @classmethod
    def _told_apart(cls, classes: dict[str, int | str]) -> dict[str, int | str]:
        if len(classes) == 1:
            raise ValueError("one class alone cannot be told from anything: name two or more, or none")
        values = [str(value) for value in classes.values()]
        if len(set(values)) < len(values):
            raise ValueError(f"two classes have the same value: {', '.join(values)}")
        if "mean" in classes:
            raise ValueError("a class cannot be called mean: that names the mean over classes")
        return classes


class FeatureSettings(Section):
    """What an instance is."""

    standardise: bool = True
    """Subtract the mean and divide by the standard deviation of each feature over the training part."""
    most_instances: int | None = Field(default=None, ge=1)
    """Instances of a bag that training sees at once, drawn anew each time; null is all of them. Prediction sees all."""
    encoder: EncoderSettings = EfficientNetLite0()
    """Network that turns tiles of pictures into features, for cases with an `image` instead of a `bag`."""
    tile: int = Field(default=224, ge=16, le=4096)
    """Side of such a tile, in pixels."""
    overlap: int = Field(default=0, ge=0)
    """Pixels that neighbouring tiles share at least."""
    folder: FilePath | None = None
    """Where features of pictures are kept; null is the cache of the user."""
    cache_gigabytes: float = Field(default=4.0, ge=0)
    """Memory for bags; those beyond it are read again each time."""


class LossSettings(Section):
    """Cross-entropy of the bag, beside what the network adds of its own."""

    class_weights: Literal["balanced"] | dict[ClassName, Annotated[float, Field(gt=0)]] | None = None
    """Weight of each class: `balanced` makes all classes of the training part count alike; null: each bag counts
    alike."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that is spread over all classes."""


class SlideInference(Section):
    """What a model of slides cannot know of the slides it is given."""

    mpp: Annotated[float, Field(gt=0)] | None = None
    """Size of a pixel of the full resolution in µm, where files do not say it."""
    outlines: FilePath | None = None
    """Folder of GeoJSON outlines, `NAME.geojson`, in place of the tissue that is found."""
    encoder_file: FilePath | None = None
    """The encoder's file or weights, where they are not installed."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Tiles through the encoder at once."""
    readers: int = Field(default=2, ge=1, le=64)
    """Threads that read tiles while others are encoded."""


class InferenceSettings(Section):
    """How a bag is judged."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "fp32"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""
    attention_table: bool = True
    """Whether the attention of every instance is written beside the probabilities."""
    slides: SlideInference = SlideInference()
    """Slides that are given to a model that was trained on bags of slides."""


class BagWorkflow(WorkflowConfig):
    """A workflow of multiple-instance learning."""

    data: DataSettings
    """Where the bags come from, by format."""
    target: TargetSettings = TargetSettings()
    """What is learned of each bag."""
    features: FeatureSettings = FeatureSettings()
    """What an instance is."""
    model: ModelSettings = Abmil()
    """The network, by name."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    infer: InferenceSettings = InferenceSettings()
    """How a bag is judged."""
