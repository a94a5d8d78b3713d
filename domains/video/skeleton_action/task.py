"""Actions from skeletons, as the shared pipelines see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from domains.video.skeleton_action.clips import ClipData, Preparation, clip_table, held_skeletons, select_persons
from domains.video.skeleton_action.plan import SkeletonPlan
from domains.video.skeleton_action.settings import (
    ClipSettings,
    InferenceSettings,
    LossSettings,
    ModelSettings,
    SkeletonWorkflow,
)
from domains.video.skeletons.joints import require_same
from domains.video.skeletons.sequences import SkeletonSequence
from pipelines.cases import Case, CaseTable
from pipelines.errors import CaseError, ConfigurationError, DataError
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Observation, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.video.skeleton_action.fusion import FusedStreams
    from domains.video.skeleton_action.network import SkeletonTransformer
    from domains.video.skeleton_action.predictor import ActionPrediction, SkeletonPredictor

__all__ = ["SkeletonActionTask"]


def _metrics() -> Mapping[str, Metric]:
    from domains.video.action.judging import METRICS

    return METRICS


class SkeletonActionTask(Task):
    """Tells actions apart by the movement of joints.

    Args:
        config: The workflow.
    """

    name: ClassVar[str] = "video/skeleton-action"
    Config: ClassVar[type[WorkflowConfig]] = SkeletonWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = _metrics()
    selection_metric: ClassVar[str] = "likelihood"
    ranking_metric: ClassVar[str] = "probability"
    config: SkeletonWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, SkeletonWorkflow):
            raise TypeError(f"{self.name} takes a SkeletonWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._model: ModelSettings = config.model
        self._clip: ClipSettings = config.clip
        self._loss: LossSettings = config.loss
        self._infer: InferenceSettings = config.infer
        self._plan: SkeletonPlan | None = None
        self._sequences: dict[str, SkeletonSequence] = {}
        self._classes: tuple[str, ...] = ()
        self._training: tuple[Case, ...] = ()

    def read_cases(self) -> CaseTable:
        """The clips that `data` names. Raises `JointSetMismatch` where a model knows other joints."""
        found = held_skeletons(self.config.data)
        table = clip_table(found, self.config.data.file)
        if self._plan is not None:
            require_same(self._plan.joints, found.joints, self.config.data.file.name)
        self._sequences = dict(zip((case.case_id for case in table), found.sequences, strict=True))
        told = {one.label for one in found.sequences} - {""}
        self._classes = tuple(name for name in found.classes if name in told) or tuple(sorted(told))
        if self._plan is None and len(told) < 2:
            raise DataError(f"{self.config.data.file.name} has {len(told)} actions: there is nothing to tell apart")
        if self._plan is not None and (unknown := sorted(told - set(self._plan.classes))):
            raise ConfigurationError(
                f"the model does not know {', '.join(unknown)}; it knows {', '.join(self._plan.classes)}",
                hint="Leave these clips out, or train on them.",
            )
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """Frames, persons and action. Raises `CaseError` when nobody is seen or the action is missing."""
        sequence = self._sequence(case)
        select_persons(sequence, self._clip.persons)
        if "action" not in case.labels:
            raise CaseError(case.case_id, "no action", hint="Give the clip a label, or leave it out.")
        persons, frames = sequence.coordinates.shape[:2]
        return {"frames": frames, "persons": persons, "action": case.labels["action"]}

    def fit(self, training: Sequence[Case]) -> None:
        """Joints, classes of the whole table, and how many clips of each the training part has."""
        first = self._sequence(training[0])
        counts = dict.fromkeys(self._classes, 0)
        for case in training:
            sequence = self._sequence(case)
            if sequence.coordinates.shape[3] != first.coordinates.shape[3]:
                raise DataError(
                    f"{case.case_id} has {sequence.coordinates.shape[3]} axes, {training[0].case_id} others"
                )
            counts[str(case.labels["action"])] += 1
        if missing := [name for name, count in counts.items() if not count]:
            raise DataError(
                f"the training part shows no {', '.join(missing)}",
                hint="Set split.stratify=action, use fewer folds, or leave these clips out.",
            )
        joints = held_skeletons(self.config.data).joints
        axes = int(first.coordinates.shape[3])
        self._plan = SkeletonPlan(joints, axes, self._classes, tuple(counts.values()))
        self._training = tuple(training)

    def training_data(self, cases: Sequence[Case], *, seed: int) -> ClipData:
        """Changed pieces of these clips."""
        numbers = {name: number for number, name in enumerate(self._fitted().classes)}
        augment = self.config.augment if self.config.augment.enabled else None
        return ClipData(cases, self._sequences, numbers, self._preparation(), augment, seed=seed)

    def build_network(self) -> SkeletonTransformer | FusedStreams:
        """A fresh network; after `fit` its streams are standardised by the training part."""
        from domains.video.skeleton_action.building import build_network, standardise

        network = build_network(self._model, self._fitted())
        if self._training:
            preparation = self._preparation()
            standardise(network, [preparation.sample(self._sequence(case)) for case in self._training])
        return network

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`, the cross-entropy; under late fusion the sum of those of the streams, so that each learns alone."""
        import torch
        from torch.nn import functional

        output = network(batch["coordinates"], batch["seen"])
        smoothing = self._loss.label_smoothing
        each = output.logits.unsqueeze(0) if output.each is None else output.each
        losses = [functional.cross_entropy(logits, batch["label"], label_smoothing=smoothing) for logits in each]
        return {"loss": torch.stack(losses).sum()}

    def predictor(self, network: nn.Module, *, device: torch.device) -> SkeletonPredictor:
        """The network, ready to serve."""
        import torch

        from domains.video.skeleton_action.predictor import SkeletonPredictor
        from pipelines.training.machine import choose_precision

        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return SkeletonPredictor(
            network,
            self._fitted(),
            self._preparation(),
            device=device,
            precision=precision[choose_precision(self._infer.precision, device.type)],
            mirror=self._infer.mirror,
            importance_table=self._infer.importance_table,
            known=self._sequences,
        )

    def item(self, case: Case) -> Item:
        """The clip of a case."""
        return Item(case.case_id, (case.paths["container"],), "skeletons", {"clip": str(case.labels["clip"])})

    def judge(self, case: Case, result: ActionPrediction | None) -> list[MetricRow]:
        """Whether the action is the first guess, or among the first five, and its probability."""
        from domains.video.action.judging import judge_clip

        return judge_clip(case, result, self._fitted().classes)

    def observe(self, case: Case, result: ActionPrediction) -> Observation:
        """Truth, decision and probabilities."""
        from domains.video.action.judging import observe_clip

        return observe_clip(case, result, self._fitted().classes)

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """Accuracies over all clips alike and by class, and the likelihood."""
        from domains.video.action.judging import judge_clips

        # Folds of a cross-validation are judged together, by a task that was not fitted.
        return judge_clips(cases, observed, self._plan.classes if self._plan else self._known_classes())

    def draw(self, case: Case, result: ActionPrediction) -> list[Figure]:
        """Which joints counted when."""
        from domains.video.skeleton_action.figures import draw_clip

        plan = self._fitted()
        return [draw_clip(case, result, plan.joints, plan.classes)]

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """The confusion matrix."""
        from domains.video.action.figures import draw_confusion
        from domains.video.action.judging import confusion

        classes = self._plan.classes if self._plan else self._known_classes()
        return (
            [draw_confusion(confusion(cases, observed, classes), classes, failed=len(cases) - len(observed))]
            if observed
            else []
        )

    def describe(self) -> dict[str, Any]:
        """Model, clip, loss, inference and plan, as plain values."""
        described = {
            "model": self._model.model_dump(mode="json"),
            "clip": self._clip.model_dump(mode="json"),
            "loss": self._loss.model_dump(mode="json"),
            "infer": self._infer.model_dump(mode="json"),
            "plan": self._fitted().describe(),
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> SkeletonActionTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        sections: dict[str, Any] = {
            "model": ModelSettings.model_validate(description["model"]),
            "clip": ClipSettings.model_validate(description["clip"]),
            "loss": LossSettings.model_validate(description["loss"]),
            "infer": InferenceSettings.model_validate(description["infer"]),
        }
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        task = cls(SkeletonWorkflow.model_construct(task=cls.name, name="served", data=None, **sections))
        task._plan = SkeletonPlan.from_description(description["plan"])
        return task

    def with_workflow(self, config: WorkflowConfig) -> SkeletonActionTask:
        """This task's network and clips, with the cases of another workflow."""
        other = SkeletonActionTask(config)
        other._plan = self._fitted()
        other._model, other._clip, other._loss, other._infer = self._model, self._clip, self._loss, self._infer
        return other

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `coordinates` `(B, P, T, J, D)`, `seen` `(B, P, T, J)` (ones), `label` `(B,)`."""
        import torch

        plan, clip = self._fitted(), self._clip
        shape = (batch_size, clip.persons, clip.frames, len(plan.joints))
        return {
            "coordinates": torch.zeros(*shape, plan.axes),
            "seen": torch.ones(*shape),
            "label": torch.zeros(batch_size, dtype=torch.int64),
            "case_id": ["example"] * batch_size,
        }

    def _known_classes(self) -> tuple[str, ...]:
        if not self._sequences:
            self.read_cases()
        return self._classes

    def _preparation(self) -> Preparation:
        return Preparation(self._fitted().joints, self._clip)

    def _sequence(self, case: Case) -> SkeletonSequence:
        if not self._sequences:
            self.read_cases()
        return self._sequences[case.case_id]

    def _fitted(self) -> SkeletonPlan:
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan
