"""Segmentation of medical images, as the shared pipelines see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from domains.medical.segmentation.attention_settings import check_attention
from domains.medical.segmentation.classes import Classes
from domains.medical.segmentation.metrics import METRICS
from domains.medical.segmentation.settings import InferenceSettings, LossSettings, ModelSettings, SegmentationWorkflow
from pipelines.cases import Case, CaseTable
from pipelines.errors import ConfigurationError, DataError
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.medical.segmentation.patches import PatchData
    from domains.medical.segmentation.plan import CaseFacts, Plan
    from domains.medical.segmentation.predictor import Segmentation, SegmentationPredictor

__all__ = ["SegmentationTask"]


class SegmentationTask(Task):
    """Segments volumes and images into classes.

    Args:
        config: The workflow.

    Raises:
        ConfigurationError: The attention mechanism does not serve the axes of the patch.
    """

    name: ClassVar[str] = "medical/segmentation"
    Config: ClassVar[type[WorkflowConfig]] = SegmentationWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "dice"
    config: SegmentationWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, SegmentationWorkflow):
            raise TypeError(f"{self.name} takes a SegmentationWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._classes = Classes.from_settings(config.classes) if config.classes else None
        self._channels: int | None = None
        self._facts: dict[str, CaseFacts] = {}
        self._plan: Plan | None = None
        self._model: ModelSettings = config.model
        self._loss: LossSettings = config.loss
        self._infer: InferenceSettings = config.infer
        self._mirror = tuple(config.augment.mirror.axes) if config.augment.enabled else ()
        if isinstance(config.patches.size, tuple):
            check_attention(self._model.attention.name, len(config.patches.size))

    def read_cases(self) -> CaseTable:
        """The cases that `data` names."""
        from domains.medical.segmentation.cases import count_channels, read_cases

        table = read_cases(self.config)
        if self._classes is None and table.about.get("classes"):
            self._classes = Classes.from_settings(table.about["classes"])
        self._channels = count_channels(self.config, table)
        if self._plan is not None and self._classes is not None:
            self._classes = _same_classes(self._classes, self._plan.classes)
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """Shape, spacing, range and voxels of each class. Raises `CaseError` when the case cannot be used."""
        from domains.medical.segmentation.facts import look_at

        classes = self._known_classes()
        facts, told = look_at(
            case,
            classes,
            channels=self._known_channels(),
            crop_foreground=self.config.preprocess.crop_foreground,
        )
        self._facts[case.case_id] = facts
        return told

    def fit(self, training: Sequence[Case]) -> None:
        """Decides spacing, intensities, patch and strides from the training part."""
        from domains.medical.segmentation.plan import make_plan

        for case in training:
            if case.case_id not in self._facts:
                self.check_case(case)
        plan = make_plan(
            self.config,
            self._known_classes(),
            [self._facts[case.case_id] for case in training],
            channels=self._known_channels(),
        )
        check_attention(self._model.attention.name, plan.preprocessing.rank)
        self._plan = plan

    def training_data(self, cases: Sequence[Case], *, seed: int) -> PatchData:
        """Augmented patches of these cases; they are preprocessed here, once."""
        from domains.medical.segmentation.patches import PatchData, prepare_case
        from pipelines.casestore import CaseStore

        plan = self._fitted()
        limit = int(self.config.preprocess.cache_gigabytes * 2**30)
        prepare = partial(prepare_case, plan.preprocessing, self._known_classes())
        store = CaseStore(prepare, size=attrgetter("bytes"), limit=limit)
        store.warm(cases)
        return PatchData(
            cases,
            store,
            size=plan.patch,
            spacing=plan.spacing,
            patches=self.config.patches,
            augment=self.config.augment,
            unit=plan.preprocessing.intensity["name"] == "unit",
            seed=seed,
        )

    def build_network(self) -> nn.Module:
        """A fresh residual U-net. Raises `ConfigurationError` when the mechanism refuses its arguments."""
        from domains.medical.segmentation.building import build_network

        return build_network(self._model, self._fitted())

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`, `dice_loss` and `cross_entropy` of a batch."""
        from domains.medical.segmentation.loss import supervised_loss

        settings = self._loss
        weight = None
        if settings.class_weights:
            weights = [settings.class_weights.get(name, 1.0) for name in ("background", *self._fitted().classes.names)]
            weight = batch["image"].new_tensor(weights)
        return supervised_loss(
            network(batch["image"]),
            batch["label"],
            dice=settings.dice,
            ce=settings.cross_entropy,
            batch=settings.batch_dice,
            smooth=settings.smooth,
            weight=weight,
        )

    def predictor(self, network: nn.Module, *, device: torch.device) -> SegmentationPredictor:
        """The network, ready to serve."""
        import torch

        from domains.medical.segmentation.predictor import SegmentationPredictor
        from pipelines.training.machine import choose_precision

        mirror = self._infer.mirror
        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return SegmentationPredictor(
            network,
            self._fitted(),
            device=device,
            precision=precision[choose_precision(self._infer.precision, device.type)],
            overlap=self._infer.overlap,
            batch_size=self._infer.batch_size,
            mirror_axes=self._mirror if mirror is True else mirror or (),
            window=self._infer.window,
        )

    def item(self, case: Case) -> Item:
        """The image of a case."""
        files = case.files("image")
        return Item(case.case_id, files, detail={"files": "channels"} if len(files) > 1 else {})

    def judge(self, case: Case, result: Segmentation | None) -> list[MetricRow]:
        """Dice, distances and volumes of each class, on the grid of the scan."""
        from domains.medical.segmentation.judging import judge_case

        return judge_case(case, result, self._known_classes(), tolerance=self.config.judge.tolerance)

    def draw(self, case: Case, result: Segmentation) -> list[Figure]:
        """The prediction over the scan, with the outlines of the reference."""
        from domains.medical.segmentation.judging import draw_case

        return draw_case(case, result, self._known_classes())

    def describe(self) -> dict[str, Any]:
        """Model, inference and plan, as plain values."""
        described = {
            "model": self._model.model_dump(mode="json"),
            "infer": self._infer.model_dump(mode="json"),
            "loss": self._loss.model_dump(mode="json"),
            "mirror": list(self._mirror),
            "plan": self._fitted().describe(),
            "synthetic": self._fitted().synthetic,
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> SegmentationTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        from domains.medical.segmentation.plan import Plan

        plan = Plan.from_description(description["plan"])
        sections: dict[str, Any] = {
            "model": ModelSettings.model_validate(description["model"]),
            "infer": InferenceSettings.model_validate(description["infer"]),
            "loss": LossSettings.model_validate(description["loss"]),
            "classes": plan.classes.values,
        }
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        config = SegmentationWorkflow.model_construct(task=cls.name, name="served", data=None, **sections)
        task = cls(config)
        task._plan = plan
        task._mirror = tuple(description["mirror"])
        return task

    def with_workflow(self, config: WorkflowConfig) -> SegmentationTask:
        """This task's network and preprocessing, with the cases of another workflow.

        Raises:
            ConfigurationError: Its classes are others.
        """
        other = SegmentationTask(config)
        other._plan = self._fitted()
        other._model, other._infer, other._loss, other._mirror = self._model, self._infer, self._loss, self._mirror
        if other._classes is not None:
            other._classes = _same_classes(other._classes, other._plan.classes)
        return other

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `image` `(B, C, *patch)` float32, `label` `(B, *patch)` int64."""
        import torch

        plan = self._fitted()
        return {
            "image": torch.zeros(batch_size, plan.preprocessing.channels, *plan.patch),
            "label": torch.zeros(batch_size, *plan.patch, dtype=torch.int64),
            "case_id": ["example"] * batch_size,
        }

    def _known_channels(self) -> int:
        if self._plan is not None:
            return self._plan.preprocessing.channels
        if isinstance(self.config.preprocess.channels, int):
            return self.config.preprocess.channels
        if self._channels is None:
            self.read_cases()
        return self._channels or 1

    def _fitted(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan

    def _known_classes(self) -> Classes:
        if self._classes is None:
            self.read_cases()
        if self._classes is None:
            raise DataError(
                "the data set names no classes",
                hint="Say under `classes` what values in the label files mean, for example classes: {vessel: 1}.",
            )
        return self._classes


def _same_classes(found: Classes, trained: Classes) -> Classes:
    """The classes of a data set in the order of the model. Raises `ConfigurationError` if they are not the same."""
    if set(found.names) != set(trained.names):
        raise ConfigurationError(
            f"the model knows the classes {', '.join(trained.names)}; the workflow has {', '.join(found.names)}",
            hint="Name the same classes under `classes` in the workflow, with their values in its label files.",
        )
    return replace(found, values={name: found.values[name] for name in trained.names})
