"""The sections that a workflow of poses adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "AugmentSettings",
    "DataSettings",
    "InferenceSettings",
    "InputSettings",
    "JudgeSettings",
    "LastFrames",
    "LossSettings",
    "ModelSettings",
    "PoseWorkflow",
]

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=32, le=2048)]


class LastFrames(Section):
    """Parts by the order of frames: of each sequence, the last ones are tested, those before them validate."""

    test: float = Field(default=0.2, gt=0, lt=1)
    """Share of a sequence's labelled frames, at its end, in the test part."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of all before the test part in the validation part."""


class DataSettings(Section):
    """Where labelled pictures come from."""

    format: Literal["lsp", "deeplabcut", "coco"]
    """`lsp` (`.npz` of joints and names), `deeplabcut` (the table of a labelled-data folder), or `coco` (JSON of COCO
    or PoseTrack)."""
    file: FilePath
    """The `.npz`, `.csv` or `.json`."""
    images: FilePath | None = None
    """Folder of the pictures; the folder of the file where it is left out."""
    joints: str = ""
    """Which joints, where the file does not say: `coco17`, `jhmdb15`, `lsp14`, `ntu25`, `posetrack17`, or a JSON file
    that describes a set."""
    group: Literal["picture", "sequence"] = "sequence"
    """What must stay in one part: a picture, or a whole sequence (a video)."""
    last: LastFrames | None = None
    """Parts by the order of frames instead of by chance; needs `group: picture`."""

    @model_validator(mode="after")
    def _parts_divide_sequences(self) -> DataSettings:
        if self.last is not None and self.group != "picture":
            raise ValueError("data.last divides sequences, so data.group must be 'picture'")
        return self


class InputSettings(Section):
    """What the network is given."""

    size: tuple[Side, Side] = (256, 192)
    """Height and width of the cut, in pixels."""
    margin: float = Field(default=1.25, ge=1, le=4)
    """Factor of a box's sides before it is cut out."""
    boxes: Literal["labels", "whole"] = "labels"
    """Where a person is: the labelled box (or the one around its joints), in judging too; or the whole picture, which
    has one person then, and of which nothing is known beforehand."""
    looks: Literal[1, 2] = 1
    """With `boxes: whole`, 2 looks again at the box around what was found in the whole picture."""
    frames: Literal[1, 3, 5, 7] = 1
    """Frames of a clip, with the labelled one in the middle; before the first frame it is shown again."""
    step: int = Field(default=1, ge=1, le=30)
    """Frames from one of a clip to the next."""
    reach: int = Field(default=1, ge=1, le=1000)
    """With labelled pictures of which some lie apart in time: a neighbour is the picture whose number is nearest to
    `step`, if it is off by less than `reach`; else the nearer frame of the clip is shown again."""


class AugmentSettings(Section):
    """How training pictures are changed."""

    enabled: bool = True
    """Whether they are changed at all."""
    rotation: float = Field(default=45.0, ge=0, le=180)
    """Largest turn in degrees."""
    scale: float = Field(default=0.35, ge=0, lt=1)
    """A box's sides are multiplied by 1 less this at the least, and by 1 and this at the most."""
    shift: float = Field(default=0.05, ge=0, le=0.5)
    """Largest move of the box, as a share of its widened sides."""
    flip: Share = 0.5
    """Share of samples whose left and right are swapped, where the set of joints has mirror images."""
    half_body: Share = 0.3
    """Share of samples, among those with eight known joints or more, that show the upper or the lower body alone."""
    light: float = Field(default=0.2, ge=0, lt=1)
    """Largest change of brightness and of contrast."""


class ModelSettings(Section):
    """The network."""

    head: Literal["dsta", "plain"] = "dsta"
    """`dsta` (joint tokens, space-time attention, residual log-likelihood), or `plain`: one linear layer on the pooled
    map with the absolute loss, the baseline."""
    tokens: Literal["pooled", "looking"] = "pooled"
    """Joint tokens of `dsta` from the pooled map, as published; or each `looking` over the map for itself, which keeps
    places and learns from fewer pictures."""
    reach: int | None = Field(default=2, ge=0)
    """With tokens that look, the place of a served one is the mean over so many cells around the one that it looked at
    most; null takes all, so that one that hesitates between a left and a right knee lies between them."""
    weights: Literal["imagenet", "none"] = "imagenet"
    """What the encoder starts from."""
    stages: Literal[5, 7] = 7
    """Stages of the encoder: 7 is all of it; 5 ends with maps of a sixteenth of the input, for half the time."""
    last_stride: Literal[1, 2] = 2
    """Stride of the last strided stage of seven; 1 makes maps twice as fine."""
    frozen_stages: int = Field(default=0, ge=0, le=8)
    """The encoder's stem and so many stages keep their weights."""
    frozen_norms: bool = True
    """Whether batch norms keep their statistics, as small batches like it."""
    dim: int = Field(default=32, ge=8, le=512)
    """Channels of a joint token."""
    depth: int = Field(default=4, ge=1, le=16)
    """Blocks of the spatial branch, and of the temporal one."""
    heads: int = Field(default=8, ge=1, le=32)
    """Heads of a block; a divisor of `dim`."""
    expansion: float = Field(default=2.0, gt=0, le=8)
    """Width of a feed-forward part over `dim`."""
    drop_path: float = Field(default=0.1, ge=0, lt=1)
    """Share of clips for which the last block is left out in training."""
    groups: tuple[tuple[str, ...], ...] = ()
    """Names of joints that look at one another; left out: arms, legs, and all others."""
    prior_mean: float = 0.0
    """Mean of the density of residuals: 0 in the paper of residual log-likelihood, 0.5 in the released DSTA."""


class LossSettings(Section):
    """What is minimised beside the residual log-likelihood."""

    looking: float = Field(default=1.0, ge=0)
    """Weight of where joint tokens look (`model.tokens: looking`): the divergence from a normal density around the
    joint; 0 leaves it to the likelihood."""
    spread: float = Field(default=0.75, gt=0)
    """Deviation of that density, in cells of the encoder's map."""


class JudgeSettings(Section):
    """How joints are judged."""

    normaliser: Literal["torso", "head", "box", "pixels"] = "torso"
    """What the threshold of PCK is a share of: left shoulder to right hip; the head; the box's longer side; or 1."""
    threshold: float = Field(default=0.2, gt=0)
    """Up to which distance a joint is right, in the unit of the normaliser."""


class InferenceSettings(Section):
    """How pictures and videos are looked at."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "fp32"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""
    mirror: bool = True
    """Whether joints are averaged with those of the mirrored picture, where the set of joints has mirror images."""
    batch: int = Field(default=32, ge=1, le=1024)
    """Persons that go through the network together; all of a frame do, and those of frames beside it."""
    block: int = Field(default=16, ge=1, le=512)
    """Frames of a video that are held in memory."""
    overlay: bool = True
    """Whether a video with the skeletons drawn in is written beside the table."""


class PoseWorkflow(WorkflowConfig):
    """A workflow of poses."""

    data: DataSettings
    """Where labelled pictures come from."""
    input: InputSettings = InputSettings()
    """What the network is given."""
    augment: AugmentSettings = AugmentSettings()
    """How training pictures are changed."""
    model: ModelSettings = ModelSettings()
    """The network."""
    loss: LossSettings = LossSettings()
    """What is minimised beside the residual log-likelihood."""
    judge: JudgeSettings = JudgeSettings()
    """How joints are judged."""
    infer: InferenceSettings = InferenceSettings()
    """How pictures and videos are looked at."""

    @model_validator(mode="after")
    def _whole_pictures_are_looked_at_again(self) -> PoseWorkflow:
        if self.input.looks == 2 and self.input.boxes != "whole":
            raise ValueError("input.looks: 2 looks again at whole pictures; set input.boxes to 'whole'")
        return self
