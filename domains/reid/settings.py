"""The sections that re-identification and fine-grained classification share."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from domains.reid.attention_settings import AttentionSettings, section_named
from domains.reid.data.settings import DataSettings
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "AugmentSettings",
    "CnnSettings",
    "ColourSettings",
    "DcalSettings",
    "EraseSettings",
    "HeadSettings",
    "InferenceSettings",
    "InputSettings",
    "LossSettings",
    "ModelSettings",
    "PictureWorkflow",
    "VitSettings",
]

Probability = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Side = Annotated[int, Field(ge=8, le=2048)]
Stage = Annotated[int, Field(ge=1, le=7)]


class InputSettings(Section):
    """How a picture becomes the network's input."""

    size: tuple[Side, Side] = (256, 128)
    """Height and width in pixels; 256 × 128 is usual for persons, 256 × 256 for vehicles."""
    fit: Literal["stretch", "crop"] = "stretch"
    """`stretch` to the size, as is usual for detections, or `crop` the middle of a picture that covers it."""
    statistics: Literal["imagenet", "half"] = "imagenet"
    """What channels are normalised by: mean and deviation of ImageNet, or 0.5 each (TransReID)."""
    cache_gigabytes: float = Field(default=2.0, ge=0)
    """Memory for resized pictures; what goes beyond is read again when it is drawn."""


class ColourSettings(Section):
    """Random brightness, contrast, saturation and hue."""

    probability: Probability = 0.0
    """How often they are changed, all at once."""
    brightness: Probability = 0.2
    """Largest share by which brightness goes up or down."""
    contrast: Probability = 0.2
    """Largest share by which contrast goes up or down."""
    saturation: Probability = 0.2
    """Largest share by which saturation goes up or down."""
    hue: float = Field(default=0.02, ge=0, le=0.5)
    """Largest turn of the hue, in turns."""


class EraseSettings(Section):
    """A random rectangle is filled with the mean."""

    probability: Probability = 0.5
    """How often."""
    area: tuple[Share, Share] = (0.02, 0.4)
    """Smallest and largest share of the picture."""
    ratio: Share = 0.3
    """Smallest side ratio; the largest is its inverse."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.area[0] > self.area[1]:
            raise ValueError(f"area: the smaller share {self.area[0]:g} is above the larger {self.area[1]:g}")
        return self


class AugmentSettings(Section):
    """Random changes of training pictures; each sample's are a function of the seed, the pass and its index."""

    enabled: bool = True
    """False turns all of them off."""
    flip: Probability = 0.5
    """How often left and right change sides."""
    pad: int = Field(default=10, ge=0, le=256)
    """Pixels of black margin from which the picture is cut anew."""
    zoom: tuple[Share, Share] | None = None
    """Share of the picture that a random cut covers, smallest and largest, before it is resized; null for none."""
    rotation: float = Field(default=0.0, ge=0, le=180)
    """Largest angle in degrees, for half of the pictures."""
    blur: Probability = 0.0
    """How often the picture is blurred a little."""
    colour: ColourSettings = ColourSettings()
    """Random colour."""
    erase: EraseSettings = EraseSettings()
    """Random erasing."""


class DcalSettings(Section):
    """Dual cross-attention learning: two more branches on a ViT."""

    local: bool = True
    """Global-local cross-attention: the patches that the class token heeds most look at all of them once more."""
    pairs: bool = True
    """Pair-wise cross-attention: in training, a picture also looks at another one; costs nothing at inference."""
    ratio: Share = 0.3
    """Share of the patches that the local branch looks at: 0.3 for re-identification, 0.1 for fine-grained classes."""
    summary: Literal["class", "patches"] = "class"
    """Feature of the local branch: its class token, as in the paper, which is the same whichever patches are chosen and
    so needs none; or the mean of the chosen patches."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not (self.local or self.pairs):
            raise ValueError("local and pairs are both off: leave dcal out instead")
        return self


class VitSettings(Section):
    """A vision transformer."""

    name: Literal["vit"] = "vit"
    """Network."""
    width: Literal["tiny", "small", "base"] | None = "tiny"
    """Channels, blocks and heads: tiny 192, 12, 3; small 384, 12, 6; base 768, 12, 12; null takes those below."""
    dim: int = Field(default=192, ge=8)
    """Channels, where `width` is null."""
    depth: int = Field(default=12, ge=1, le=64)
    """Blocks, where `width` is null."""
    heads: int = Field(default=3, ge=1)
    """Attention heads, where `width` is null."""
    patch: int = Field(default=16, ge=2)
    """Side of a patch in pixels."""
    stride: int | None = Field(default=None, ge=1)
    """Pixels from one patch to the next; below `patch` they overlap (12 in TransReID); null is `patch`."""
    drop: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth of the last block."""
    cameras: bool = False
    """Whether the network is told the camera; one that it does not know takes a learned "unknown"."""
    views: bool = False
    """Whether the network is told the view."""
    weights: FilePath | None = None
    """Official ViT or DeiT weights: a .safetensors file, Google's .npz, or one of PyTorch with tensors alone; null
    starts at random."""
    attention: AttentionSettings = section_named("full")
    """Mechanism of each block; another one than `full` works on the grid of patches, without a class token."""
    dcal: DcalSettings | None = None
    """Dual cross-attention learning; null is the plain network."""

    @model_validator(mode="after")
    def _dcal_needs_a_class_token(self) -> Self:
        if self.dcal is not None and self.attention.name != "full":
            raise ValueError(f"dcal needs attention full, not {self.attention.name}")
        if self.attention.name == "none":
            raise ValueError("a vision transformer cannot do without attention; use full, or any other mechanism")
        return self


class CnnSettings(Section):
    """EfficientNet-lite0."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """Network."""
    weights: Literal["imagenet", "none"] = "imagenet"
    """Where training starts: from ImageNet (weights that are installed, nothing is downloaded), or at random."""
    last_stride: Literal[1, 2] = 1
    """Stride of the last strided stage; 1 keeps finer maps."""
    pool: Literal["gem", "mean"] = "gem"
    """Generalised mean with a learned power, or the mean."""
    stripes: int = Field(default=1, ge=1, le=16)
    """Horizontal stripes that are pooled apart and stand side by side in the embedding (PCB): what is worn above and
    below is then compared apart. 1 pools the whole map."""
    drop: float = Field(default=0.0, ge=0, lt=1)
    """Stochastic depth of the last block."""
    frozen_stages: int = Field(default=0, ge=0, le=8)
    """The stem and so many of the 7 stages keep their weights; 8 freezes all of them."""
    frozen_norms: bool = False
    """Whether batch norms keep their running statistics."""
    attention: AttentionSettings = section_named("none")
    """A gate or mixer at the end of stages: `light` for the light attention block, or any other mechanism."""
    attention_stages: tuple[Stage, ...] = (6,)
    """Stages that end with it. The rule is: late stages, whose maps are small, and not the first."""


ModelSettings = Annotated[CnnSettings | VitSettings, Field(discriminator="name")]
"""The network, by name."""


class HeadSettings(Section):
    """What stands between features and decisions."""

    neck: bool = True
    """A batch norm without shift between the feature that distances are learned on and the classifier (BNNeck)."""
    cameras: bool = False
    """Whether the neck keeps mean and variance of each camera apart, which takes out what a camera does to all its
    pictures. A picture of another camera takes those of all together."""
    served: Literal["before", "after"] = "after"
    """Which feature is the embedding: before or after the neck."""
    margin: float | None = Field(default=None, ge=0, lt=math.pi / 2)
    """Angular margin of the classifier in radians (ArcFace), for example 0.3; null is a linear classifier."""
    scale: float = Field(default=30.0, gt=0)
    """Factor of the cosines, with a margin."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout before the classifier."""

    @model_validator(mode="after")
    def _cameras_need_a_neck(self) -> Self:
        if self.cameras and not self.neck:
            raise ValueError("cameras is about the neck, and neck is off: set head.neck=true, or head.cameras=false")
        return self


class LossSettings(Section):
    """What is minimised: a weighted sum; weights of 0 leave a part out."""

    identity: float = Field(default=1.0, ge=0)
    """Weight of the cross-entropy of identities (or classes)."""
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Label smoothing."""
    triplet: float = Field(default=1.0, ge=0)
    """Weight of the batch-hard triplet loss."""
    margin: float | None = Field(default=None, ge=0)
    """Margin of the triplet loss; null is the soft margin."""
    compare: Literal["before", "after"] = "before"
    """Which feature distances are learned on: before the neck (the usual triplet), or after it, where the channels
    are centred, as losses of cosines like it."""
    circle: float = Field(default=0.0, ge=0)
    """Weight of the circle loss."""
    centre: float = Field(default=0.0, ge=0)
    """Weight of the centre loss, for example 0.0005."""

    @model_validator(mode="after")
    def _something_to_learn(self) -> Self:
        if not (self.identity or self.triplet or self.circle):
            raise ValueError("identity, triplet and circle are all 0: nothing is left to learn from")
        return self

    @property
    def compares(self) -> bool:
        """Whether embeddings of a batch are compared, so that batches need partners."""
        return bool(self.triplet or self.circle)


class InferenceSettings(Section):
    """How pictures are embedded."""

    mirror: bool = False
    """Whether the mirrored picture is embedded too and both are averaged."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "fp32"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""


class PictureWorkflow(WorkflowConfig):
    """What workflows of pictures with identities or classes share."""

    has_heads: ClassVar[bool] = True
    """Whether `head` stands behind the network."""

    data: DataSettings
    """Where the pictures come from, by format."""
    input: InputSettings = InputSettings()
    """How a picture becomes the network's input."""
    augment: AugmentSettings = AugmentSettings()
    """Random changes of training pictures."""
    model: ModelSettings = CnnSettings()
    """The network."""
    head: HeadSettings = HeadSettings()
    """What stands between features and decisions."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    infer: InferenceSettings = InferenceSettings()
    """How pictures are embedded."""

    @model_validator(mode="after")
    def _one_picture_is_no_batch(self) -> Self:
        pairs = isinstance(self.model, VitSettings) and self.model.dcal is not None and self.model.dcal.pairs
        if self.train.batch_size == 1 and self.has_heads and (self.head.neck or pairs):
            why = "head.neck takes the variance of a batch" if self.head.neck else "model.dcal.pairs needs a second one"
            raise ValueError(f"train.batch_size is 1, but {why}: take 2 or more")
        return self

    @model_validator(mode="after")
    def _the_neck_numbers_cameras_alone(self) -> Self:
        if self.head.cameras and isinstance(self.model, VitSettings) and self.model.views:
            raise ValueError("head.cameras does not go with model.views: the neck knows cameras alone; leave one out")
        return self
