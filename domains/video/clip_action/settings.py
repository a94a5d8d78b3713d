"""The sections that a workflow of actions in RGB clips adds to those that every workflow has."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from domains.video.clip_action.data_settings import VideoData
from domains.video.clip_action.model_settings import ModelSettings, SpaceTimeSettings
from domains.video.sampling import ShortPolicy
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.workflow import WorkflowConfig

__all__ = [
    "AugmentSettings",
    "ClipSettings",
    "ClipWorkflow",
    "InferenceSettings",
    "InputSettings",
    "LossSettings",
    "PoseSettings",
]

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=16, le=1024)]


class InputSettings(Section):
    """How frames become the network's input."""

    size: tuple[Side, Side] = (160, 160)
    """Height and width in pixels; frames are scaled inside the decoder."""
    fit: Literal["stretch", "crop"] = "crop"
    """`stretch` to the size, or scale until it is covered and `crop`: the middle, or anywhere in training."""
    rate: float | None = Field(default=None, gt=0)
    """Frames a second that are kept in memory for drawing clips from; null keeps all."""
    cache_gigabytes: float = Field(default=1.0, ge=0)
    """Memory for decoded frames, or for features of a frozen encoder; what goes beyond is read again each time."""


class ClipSettings(Section):
    """Which frames make up a clip."""

    frames: int = Field(default=16, ge=1, le=256)
    """Frames of a clip."""
    sampling: Literal["uniform", "dense", "rate"] = "uniform"
    """`uniform`: one of each equal segment of the whole video. `dense`: frames `stride` apart. `rate`: frames nearest
    to moments `1 / rate` seconds apart, the same span of time from cameras of any rate."""
    stride: int = Field(default=2, ge=1)
    """Frames from one to the next, for `dense`."""
    rate: float = Field(default=8.0, gt=0)
    """Frames a second, for `rate`."""
    short: ShortPolicy = "repeat_last"
    """What is done where a video is too short: `repeat_last` shows the last frame again, `wrap` starts over, `error`
    refuses it."""
    views: int = Field(default=2, ge=1, le=32)
    """Clips of one video that are looked at when it is judged; their probabilities are averaged."""
    motion_gap: float = Field(default=0.1, gt=0, le=5)
    """Seconds between the two frames whose difference is the motion stream."""


class PoseSettings(Section):
    """How the poses of a video are taken, where they are the second modality (`model.streams: [rgb, pose]`)."""

    folder: FilePath | None = None
    """Folder in which the skeletons of a video are looked for by its name, at any depth (what `pulvinar predict` of a
    pose model left, say); null is beside the video. A column `data.skeleton` goes before it. A model folder does not
    keep it: in prediction, `--set pose.folder=FOLDER`."""
    joints: str = ""
    """Which joints files hold that do not say: `coco17`, `jhmdb15`, `lsp14`, `ntu25`, `posetrack17`, or a JSON file
    that describes a set."""
    persons: int = Field(default=1, ge=1, le=10)
    """Persons that are looked at: those that are seen most surely in most frames and joints. Where there are fewer, the
    others are masked."""
    lowest: Share = 0.0
    """Confidence below which a joint counts as not seen."""
    align: Literal["frames", "time"] = "frames"
    """`frames`: one pose for each frame; another number of frames, or other times, are an error. `time`: the pose
    nearest in time; poses without times lie evenly from the first frame to the last."""


class AugmentSettings(Section):
    """How training clips are changed: all frames of one in the same way."""

    enabled: bool = True
    """Whether they are changed at all."""
    flip: Share = 0.5
    """Share of clips whose left and right are swapped."""
    zoom: float = Field(default=0.7, gt=0, le=1)
    """Smallest share of each side that is cut out and scaled to the size again; 1 leaves the picture as it is."""
    brightness: float = Field(default=0.2, ge=0, le=1)
    """Largest share of the range by which a clip gets lighter or darker."""
    contrast: float = Field(default=0.2, ge=0, lt=1)
    """Largest share by which contrast grows or shrinks."""


class LossSettings(Section):
    """Cross-entropy of the clip."""

    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    """Share of the target that is spread over all classes."""
    balance: bool = False
    """Whether classes weigh the same, however many clips each has."""


class InferenceSettings(Section):
    """How videos are judged and served."""

    precision: Literal["auto", "bf16", "fp16", "fp32"] = "fp32"
    """Precision of the network; auto is bf16 where the hardware is fast at it."""
    mirror: bool = True
    """Whether probabilities are averaged with those of the mirrored clip."""
    windows: Literal["auto", "never"] = "auto"
    """`auto`: a video longer than 1.5 times the longest of the training part is looked at in windows as long as the
    median one; memory does not grow with its length. `never` looks at `clip.views` of the whole video."""
    window_seconds: float | None = Field(default=None, gt=0)
    """Length of a window; null is the median length of the training videos."""
    overlap: float = Field(default=0.5, ge=0, lt=1)
    """Share of a window that the next one repeats."""
    timeline: bool = True
    """Whether a video with the label's time line is written for what was looked at in windows."""


class ClipWorkflow(WorkflowConfig):
    """A workflow of actions in RGB clips."""

    data: VideoData
    """Where the videos come from, by format."""
    input: InputSettings = InputSettings()
    """How frames become the network's input."""
    clip: ClipSettings = ClipSettings()
    """Which frames make up a clip."""
    pose: PoseSettings = PoseSettings()
    """How poses are taken, where they are the second modality."""
    augment: AugmentSettings = AugmentSettings()
    """How training clips are changed."""
    model: ModelSettings = SpaceTimeSettings()
    """The network, by name."""
    loss: LossSettings = LossSettings()
    """What is minimised."""
    infer: InferenceSettings = InferenceSettings()
    """How videos are judged and served."""

    @model_validator(mode="after")
    def _kept_frames_suffice(self) -> Self:
        if self.input.rate is not None and self.clip.sampling == "rate" and self.input.rate < self.clip.rate:
            raise ValueError(
                f"input.rate {self.input.rate:g} keeps fewer frames a second than clip.rate {self.clip.rate:g} asks for"
            )
        return self
