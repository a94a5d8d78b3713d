"""The sections that a segmentation workflow adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from domains.medical.segmentation.attention_settings import AttentionSettings, NoAttention
from domains.medical.segmentation.data_settings import DataSettings
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "AugmentSettings",
    "Blur",
    "ColourRange",
    "CtIntensity",
    "Geometry",
    "InferenceSettings",
    "JudgeSettings",
    "LossSettings",
    "LowResolution",
    "Mirror",
    "ModelSettings",
    "Noise",
    "PatchSettings",
    "PreprocessSettings",
    "SegmentationWorkflow",
    "UnitIntensity",
    "ZScoreIntensity",
]

Probability = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Size = Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2, max_length=3)]
Spacing = Annotated[tuple[Positive, ...], Field(min_length=2, max_length=3)]
Range = tuple[Positive, Positive]
LabelValue = Annotated[int, Field(ge=1, le=65535)]


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if bounds[0] > bounds[1]:
        raise ValueError(f"the lower bound {bounds[0]:g} is above the upper bound {bounds[1]:g}")
    return bounds


class ZScoreIntensity(Section):
    """Mean 0 and standard deviation 1 in each case, for scans without units such as MRI."""

    name: Literal["zscore"] = "zscore"
    """Intensity."""
    clip: tuple[Probability, Probability] | None = (0.0, 0.999)
    """Quantiles of the foreground that intensities are clipped to before they are normalised; null does not clip."""

    @field_validator("clip")
    @classmethod
    def _in_order(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"the lower quantile {value[0]:g} is not below the upper quantile {value[1]:g}")
        return value


class CtIntensity(Section):
    """Clipped to a window and normalised by statistics of the training part, for scans in Hounsfield units."""

    name: Literal["ct"] = "ct"
    """Intensity."""
    window: tuple[float, float] | None = None
    """Lowest and highest value kept, in HU; null takes the quantiles below of labelled voxels of the training part."""
    quantiles: tuple[Probability, Probability] = (0.005, 0.995)
    """Quantiles of the labelled voxels of the training part that make the window, where none is given."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.window is not None and self.window[0] >= self.window[1]:
            raise ValueError(f"window: the lower bound {self.window[0]:g} is not below the upper {self.window[1]:g}")
        if self.quantiles[0] >= self.quantiles[1]:
            raise ValueError(f"quantiles: {self.quantiles[0]:g} is not below {self.quantiles[1]:g}")
        return self


class UnitIntensity(Section):
    """From the range of the file's integer type to 0 to 1, for photographs and microscopy."""

    name: Literal["unit"] = "unit"
    """Intensity."""


Intensity = Annotated[ZScoreIntensity | CtIntensity | UnitIntensity, Field(discriminator="name")]


class PreprocessSettings(Section):
    """What is done to a scan before the network sees it, in training and in service alike."""

    channels: Annotated[int, Field(ge=1, le=64)] | Literal["auto"] = "auto"
    """Channels of an image; `auto` is what the data set says or shows: 1 for a scan, 3 for a colour picture."""
    spacing: Spacing | Literal["auto"] | None = None
    """Spacing in mm along the axes right, anterior, superior (rows, columns in 2D) that scans are resampled to;
    `auto` is the median of the training part, null keeps each scan's own."""
    intensity: Intensity = ZScoreIntensity()
    """How intensities are normalised, by name."""
    crop_foreground: bool = False
    """Cut away the margin that holds only the background value before anything else."""
    cache_gigabytes: float = Field(default=4.0, ge=0)
    """Memory for preprocessed training cases; cases beyond it are prepared again each time they are drawn."""


class PatchSettings(Section):
    """The blocks that training is done on and the sliding window moves by."""

    size: Size | Literal["auto"] = "auto"
    """Voxels along each axis; `auto` is the median training case, made no larger than `voxels`."""
    voxels: int | None = Field(default=None, ge=64)
    """Largest number of voxels of an `auto` patch; null is 96³ for volumes and 256² for images."""
    per_case: int = Field(default=1, ge=1)
    """Patches drawn from each training case in one epoch."""
    foreground: Probability = 0.5
    """Share of patches centred near a voxel of a class, the class drawn evenly from those present."""


class Geometry(Section):
    """Rotation and scaling, in one interpolation together with the cut of the patch."""

    probability: Probability = 0.3
    """How often it is applied to a patch."""
    rotation: float = Field(default=15.0, ge=0, le=180)
    """Largest angle in degrees about each axis."""
    scale: Annotated[Range, Field(validate_default=True)] = (0.85, 1.2)
    """Smallest and largest magnification."""

    @field_validator("scale")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _ordered(value)


class Mirror(Section):
    """Reflection along axes, each with the same probability."""

    probability: Probability = 0.5
    """How often each of the axes is reflected."""
    axes: tuple[Annotated[int, Field(ge=0, le=2)], ...] = ()
    """Axes that may be reflected: 0 right-left, 1 anterior-posterior, 2 superior-inferior (rows, columns in 2D)."""


class Noise(Section):
    """Additive Gaussian noise."""

    probability: Probability = 0.1
    """How often it is applied to a patch."""
    deviation: float = Field(default=0.1, ge=0)
    """Largest standard deviation, in units of the standard deviation of the patch."""


class Blur(Section):
    """Gaussian blur."""

    probability: Probability = 0.1
    """How often it is applied to a patch."""
    sigma: Range = (0.5, 1.0)
    """Smallest and largest sigma in voxels."""

    @field_validator("sigma")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _ordered(value)


class ColourRange(Section):
    """A factor drawn from a range."""

    probability: Probability = 0.15
    """How often it is applied to a patch."""
    factor: Range = (0.75, 1.25)
    """Smallest and largest factor."""

    @field_validator("factor")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        return _ordered(value)


class LowResolution(Section):
    """The patch as a coarser scanner would have seen it: sampled down, then up again."""

    probability: Probability = 0.1
    """How often it is applied to a patch."""
    zoom: tuple[Probability, Probability] = (0.5, 1.0)
    """Smallest and largest ratio of resolutions."""

    @field_validator("zoom")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if value[0] <= 0:
            raise ValueError("the smallest zoom must be above 0")
        return _ordered(value)


class AugmentSettings(Section):
    """Random changes of training patches; each sample's are a function of the seed, the epoch and its index."""

    enabled: bool = True
    """False turns all of them off."""
    geometry: Geometry = Geometry()
    mirror: Mirror = Mirror()
    noise: Noise = Noise()
    blur: Blur = Blur()
    brightness: ColourRange = ColourRange()
    contrast: ColourRange = ColourRange()
    gamma: ColourRange = ColourRange(probability=0.2, factor=(0.7, 1.5))
    low_resolution: LowResolution = LowResolution()
    hue: Probability = 0.0
    """Probability of a small shift of hue and saturation; colour images only."""


Level = Annotated[int, Field(ge=0)] | Literal["bottleneck"]


class ModelSettings(Section):
    """A U-shaped residual network."""

    channels: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=2, max_length=8)] = (16, 32, 64, 128)
    """Channels of each level, from the full resolution to the bottleneck."""
    depths: Annotated[int, Field(ge=1)] | tuple[Annotated[int, Field(ge=1)], ...] = 1
    """Residual blocks of each level of the encoder; one number serves all levels."""
    strides: Literal["auto"] | tuple[Size, ...] = "auto"
    """Stride into each level after the first; `auto` halves an axis until its spacing or its extent says otherwise."""
    deep_supervision: int = Field(default=2, ge=1)
    """Resolutions that get a loss, counted from the full one; 1 is the full resolution alone."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout of whole channels after each block."""
    attention: AttentionSettings = NoAttention()
    """Mechanism of the attention core, by name; `pulvinar list attention` shows them."""
    attention_levels: tuple[Level, ...] = ("bottleneck",)
    """Levels of the encoder (0 is the full resolution) that take the mechanism; `bottleneck` is the last."""

    @model_validator(mode="after")
    def _levels_agree(self) -> Self:
        levels = len(self.channels)
        if isinstance(self.depths, tuple) and len(self.depths) != levels:
            raise ValueError(f"depths has {len(self.depths)} entries, channels has {levels}: give one for each level")
        if isinstance(self.strides, tuple) and len(self.strides) != levels - 1:
            raise ValueError(f"strides has {len(self.strides)} entries; {levels} levels take {levels - 1}")
        if self.deep_supervision >= levels:
            raise ValueError(f"deep_supervision is {self.deep_supervision}; {levels} levels allow at most {levels - 1}")
        for level in self.attention_levels:
            if level != "bottleneck" and level >= levels:
                raise ValueError(f"attention_levels names {level}; levels are 0 to {levels - 1}")
        return self


class LossSettings(Section):
    """Soft Dice plus cross-entropy."""

    dice: float = Field(default=1.0, ge=0)
    """Weight of the Dice part."""
    cross_entropy: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy part."""
    batch_dice: bool = True
    """One Dice over the whole batch instead of one for each sample; steadier where structures are often absent."""
    smooth: float = Field(default=1e-5, ge=0)
    """Added to numerator and denominator of the Dice."""
    class_weights: dict[str, Positive] = Field(default={})
    """Weight of a class in the cross-entropy where it is not 1; `background` may be named too."""

    @model_validator(mode="after")
    def _not_nothing(self) -> Self:
        if self.dice == 0 and self.cross_entropy == 0:
            raise ValueError("dice and cross_entropy are both 0: nothing is left to learn from")
        return self


class InferenceSettings(Section):
    """How a scan is segmented."""

    window: Size | None = None
    """Voxels of the sliding window along each axis; null is the training patch."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that its neighbour covers too."""
    batch_size: int = Field(default=2, ge=1)
    """Windows that go through the network at once."""
    mirror: bool | tuple[Annotated[int, Field(ge=0, le=2)], ...] = True
    """Axes reflected for test-time augmentation; true is those of `augment.mirror`, false none."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""


class JudgeSettings(Section):
    """How predictions are judged."""

    tolerance: Positive | dict[str, Positive] = 1.0
    """Distance in mm (pixels where a picture tells no size) within which surfaces agree, for the surface Dice `nsd`;
    one for all classes, or one for each by name."""


class SegmentationWorkflow(WorkflowConfig):
    """A segmentation workflow."""

    data: DataSettings
    """Where the cases come from, by format."""
    classes: dict[str, LabelValue | Annotated[tuple[LabelValue, ...], Field(min_length=1)]] = Field(default={})
    """Class name → value, or values, in the label files; 0 is background. Empty takes what the data set says."""
    preprocess: PreprocessSettings = PreprocessSettings()
    """What is done to a scan before the network sees it."""
    patches: PatchSettings = PatchSettings()
    """The blocks that training is done on."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of training patches."""
    model: ModelSettings = ModelSettings()
    """The network."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    infer: InferenceSettings = InferenceSettings()
    """How a scan is segmented."""
    judge: JudgeSettings = JudgeSettings()
    """How predictions are judged."""

    @field_validator("classes")
    @classmethod
    def _one_meaning_for_each_value(cls, classes: dict[str, int | tuple[int, ...]]) -> dict[str, int | tuple[int, ...]]:
        owner: dict[int, str] = {}
        for name, values in classes.items():
            if name == "background":
                raise ValueError("background is 0 and is not listed")
            for value in (values,) if isinstance(values, int) else values:
                if value in owner:
                    raise ValueError(f"value {value} stands for {owner[value]!r} and for {name!r}")
                owner[value] = name
        return classes
