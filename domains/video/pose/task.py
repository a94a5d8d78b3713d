"""Poses, as the shared pipelines see them."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from domains.video.keypoints.pck import check_normaliser
from domains.video.pose.cases import clip_paths, held_labels, pose_table
from domains.video.pose.labels import LabelledFrame
from domains.video.pose.plan import PosePlan
from domains.video.pose.samples import PoseSamples, trainable
from domains.video.pose.settings import InferenceSettings, InputSettings, JudgeSettings, ModelSettings, PoseWorkflow
from domains.video.skeletons.joints import JointSet, require_same
from pipelines.cases import PARTS, Case, CaseTable
from pipelines.config.section import Section
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Observation, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.video.pose.predictor import PosePredictor, PoseResult

__all__ = ["PoseTask"]

_log = logging.getLogger(__name__)

_SERVED: dict[str, type[Section]] = {
    "model": ModelSettings,
    "input": InputSettings,
    "judge": JudgeSettings,
    "infer": InferenceSettings,
}
"""Sections that the model folder holds."""


def _metrics() -> Mapping[str, Metric]:
    from domains.video.pose.judging import METRICS

    return METRICS


class PoseTask(Task):
    """Finds the joints of persons and animals in pictures and videos.

    Args:
        config: The workflow.
    """

    name: ClassVar[str] = "video/pose"
    Config: ClassVar[type[WorkflowConfig]] = PoseWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = _metrics()
    selection_metric: ClassVar[str] = "pck_area"
    ranking_metric: ClassVar[str] = "pixel_error"
    config: PoseWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, PoseWorkflow):
            raise TypeError(f"{self.name} takes a PoseWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._served = config
        self._plan: PosePlan | None = None
        self._from_folder = False
        self._frames: dict[str, LabelledFrame] = {}
        self._parts: dict[str, str] = {}
        self._beside: dict[str, frozenset[Path]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}
        self._in_heads: bool | None = None

    def read_cases(self) -> CaseTable:
        """The pictures that `data` names. Raises `JointSetMismatch` where a model knows other joints."""
        data = self.config.data
        found = held_labels(data)
        if self._plan is not None:
            require_same(self._plan.joints, found.joints, data.file.name)
        check_normaliser(self._served.judge.normaliser, found.joints)
        table, self._frames = pose_table(found, data)
        self._in_heads = None
        self._parts = {case.case_id: case.split for case in table}
        self._beside = {part: frozenset(case.paths["image"] for case in table.part(part)) for part in PARTS}
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """Size of the picture and persons. Raises `CaseError` where it, or a frame beside it, cannot be used."""
        from domains.video.pose.checking import check_frame

        return check_frame(case.case_id, self._frame(case), self._clip(case.case_id), self._served.input)

    def fit(self, training: Sequence[Case]) -> None:
        """The joints, and how often each is labelled in the training part."""
        joints = held_labels(self.config.data).joints
        persons = [one for case in training for one in trainable(self._frame(case))]
        labelled = tuple(int(sum(bool(one.known[place]) for one in persons)) for place in range(len(joints)))
        if missing := [name for name, count in zip(joints.joints, labelled, strict=True) if not count]:
            # PoseTrack names ears and labels none: such a joint is in no number, and is never told.
            _log.warning("no training picture has %s labelled: nothing is learned or told of it", ", ".join(missing))
        self._plan = PosePlan(joints, len(persons), labelled)

    def training_data(self, cases: Sequence[Case], *, seed: int) -> PoseSamples:
        """Changed cuts of the persons of these cases."""
        frames = {case.case_id: self._frame(case) for case in cases}
        clips = {case.case_id: self._clip(case.case_id) for case in cases}
        augment = self.config.augment if self.config.augment.enabled else None
        return PoseSamples(frames, clips, self.plan.joints, self._served.input, augment, seed=seed)

    def build_network(self) -> nn.Module:
        """A fresh network; its encoder starts as the settings say, unless a model folder will give all weights."""
        from domains.video.pose.building import build_network

        served = self._served
        return build_network(
            served.model, self.plan.joints, frames=served.input.frames, pretrained=not self._from_folder
        )

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`: residual log-likelihood, or the absolute difference for the plain head."""
        from domains.video.pose.loss import absolute_loss, looking_loss, residual_likelihood_loss

        output = network(batch["frames"])
        target, weight = batch["target"], batch["weight"]
        if output.sigma is None:
            return {"loss": absolute_loss(output.coordinates, target, weight)}
        # Several processes wrap the network; the density that is learned with it is inside.
        flow: Any = getattr(network, "module", network).flow
        likelihood = residual_likelihood_loss(output.coordinates, output.sigma, target, weight, flow)
        settings = self.config.loss
        if output.looks is None or not settings.looking:
            return {"loss": likelihood}
        looking = looking_loss(output.looks, target, weight, spread=settings.spread)
        return {
            "loss": likelihood + settings.looking * looking,
            "likelihood": likelihood.detach(),
            "looking": looking.detach(),
        }

    def predictor(self, network: nn.Module, *, device: torch.device) -> PosePredictor:
        """The network, ready to serve."""
        import torch

        from domains.video.pose.estimating import PoseEstimator
        from domains.video.pose.network import SpaceTimePose, for_serving
        from domains.video.pose.predictor import PosePredictor
        from pipelines.training.machine import choose_precision

        infer, given = self._served.infer, self._served.input
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        spread = math.nan
        if self._from_folder:  # it is not trained on, as one of a run in progress may be
            network = for_serving(cast("SpaceTimePose", network))
            spread = network.flow.spread() if isinstance(network, SpaceTimePose) else math.nan
        estimator = PoseEstimator(
            network,
            self.plan.joints,
            given,
            device=device,
            precision=precision[choose_precision(infer.precision, device.type)],
            mirror=infer.mirror,
            batch=infer.batch,
            spread=spread,
            taught=[count > 0 for count in self.plan.labelled] or None,
        )
        known = {case_id: self._known(case_id) for case_id in self._frames}
        return PosePredictor(estimator, step=given.step, block=infer.block, overlay=infer.overlay, known=known)

    def item(self, case: Case) -> Item:
        """The picture of a case."""
        return Item(case.case_id, (case.paths["image"],), "picture")

    def judge(self, case: Case, result: PoseResult | None) -> list[MetricRow]:
        """PCK and error of each joint."""
        from domains.video.pose.judging import judge_frame

        pose = None if result is None else result.pose
        return judge_frame(case, pose, self._frame(case), self.plan.joints, self._served.judge, self._size(case))

    def observe(self, case: Case, result: PoseResult) -> Observation:
        """Errors and places of all joints."""
        from domains.video.pose.judging import observe_frame

        return observe_frame(
            case, result.pose, self._frame(case), self.plan.joints, self._served.judge, self._size(case)
        )

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """PCK, its curve and errors over all joints alike; each joint in heads where the set is judged so."""
        from domains.video.pose.heads import judge_heads, told_in_heads
        from domains.video.pose.judging import judge_frames

        if not self._frames:
            self.read_cases()
        joints, judge = self._joints(), self._served.judge
        numbers = judge_frames(cases, observed, self._frames, joints, judge, lambda case: math.hypot(*self._size(case)))
        if self._in_heads is None:
            self._in_heads = told_in_heads(self._frames.values(), joints, judge)
        return numbers | judge_heads(cases, observed, self._frames, joints) if self._in_heads else numbers

    def draw(self, case: Case, result: PoseResult) -> list[Figure]:
        """The picture with what was found and what was labelled."""
        from domains.video.pose.figures import draw_case

        return [draw_case(case, result, self._frame(case), self.plan.joints)]

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """PCK over thresholds, and the errors of each joint."""
        from domains.video.pose.figures import draw_curve, draw_errors

        if not observed:
            return []
        return [
            draw_curve(observed, self._served.judge),
            draw_errors(observed, self._joints(), self._served.judge),
        ]

    @property
    def plan(self) -> PosePlan:
        """What the training part says. Raises `RuntimeError` before `fit`."""
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan

    def describe(self) -> dict[str, Any]:
        """Model, input, inference and plan, as plain values."""
        described = {name: getattr(self._served, name).model_dump(mode="json") for name in _SERVED}
        plain: dict[str, Any] = json.loads(json.dumps({**described, "plan": self.plan.describe()}))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> PoseTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        sections: dict[str, Any] = {
            name: section.model_validate(description[name]) for name, section in _SERVED.items()
        }
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        task = cls(PoseWorkflow.model_construct(task=cls.name, name="served", data=None, **sections))
        task._plan = PosePlan.from_description(description["plan"])
        task._from_folder = True
        return task

    def with_workflow(self, config: WorkflowConfig) -> PoseTask:
        """This task's network and input, with the cases of another workflow and its way of judging."""
        other = PoseTask(config)
        other._served = self._served.model_copy(update={"judge": other.config.judge})
        other._plan, other._from_folder = self.plan, True
        return other

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `frames` `(B, T, 3, H, W)`, `target` `(B, J, 2)`, `weight` `(B, J, 2)` (ones)."""
        import torch

        given, joints = self._served.input, len(self.plan.joints)
        return {
            "frames": torch.zeros(batch_size, given.frames, 3, *given.size),
            "target": torch.zeros(batch_size, joints, 2),
            "weight": torch.ones(batch_size, joints, 2),
            "case_id": ["example"] * batch_size,
        }

    def _joints(self) -> JointSet:
        return self._plan.joints if self._plan else held_labels(self.config.data).joints

    def _frame(self, case: Case) -> LabelledFrame:
        if not self._frames:
            self.read_cases()
        return self._frames[case.case_id]

    def _size(self, case: Case) -> tuple[int, int]:
        """Height and width of a picture, upright."""
        from pipelines.pictures import picture_size

        if case.case_id not in self._sizes:
            self._sizes[case.case_id] = picture_size(case.paths["image"], case.case_id)
        return self._sizes[case.case_id]

    def _clip(self, case_id: str) -> tuple[Path, ...]:
        """A frame of another part is not shown beside one of this: training would see pictures of the test."""
        frame = self._frames[case_id]
        allowed = self._beside.get(self._parts[case_id], frozenset()) if self.config.data.group == "picture" else None
        return clip_paths(frame, held_labels(self.config.data).sequences, self._served.input, allowed=allowed)

    def _known(self, case_id: str) -> Any:
        from domains.video.pose.boxes import FoundBox
        from domains.video.pose.judging import judged_persons
        from domains.video.pose.predictor import KnownFrame

        frame = self._frames[case_id]
        if self._served.input.boxes == "whole":
            return KnownFrame(self._clip(case_id), None)
        boxes = tuple(FoundBox(one.own_box, track=one.track) for one in judged_persons(frame))
        return KnownFrame(self._clip(case_id), boxes)
