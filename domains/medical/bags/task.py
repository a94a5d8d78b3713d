"""Multiple-instance learning, as the shared pipelines see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import TypeAdapter

from domains.medical.bags.judging import METRICS, judge_bag, judge_bags, observe_bag, together
from domains.medical.bags.model_settings import ModelSettings
from domains.medical.bags.plan import BagPlan, TrainingFacts
from domains.medical.bags.reading import BagReader, item_of
from domains.medical.bags.settings import BagWorkflow, FeatureSettings, InferenceSettings, LossSettings
from domains.medical.bags.target import Target
from pipelines.cases import Case, CaseTable
from pipelines.errors import ConfigurationError
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Observation, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from domains.medical.bags.building import BagNetwork
    from domains.medical.bags.predictor import BagPrediction, BagPredictor
    from domains.medical.bags.training import BagData

__all__ = ["BagTask"]


class BagTask(Task):
    """Classifies bags of instances.

    Args:
        config: The workflow.
    """

    name: ClassVar[str] = "medical/bags"
    Config: ClassVar[type[WorkflowConfig]] = BagWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "likelihood"
    ranking_metric: ClassVar[str] = "probability"
    config: BagWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, BagWorkflow):
            raise TypeError(f"{self.name} takes a BagWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._model = config.model
        self._features: FeatureSettings = config.features
        self._loss: LossSettings = config.loss
        self._infer: InferenceSettings = config.infer
        self._reader = BagReader(config.features)
        self._target: Target | None = None
        self._plan: BagPlan | None = None
        self._scale: tuple[NDArray[Any], NDArray[Any]] | None = None

    def read_cases(self) -> CaseTable:
        """The bags that `data` names, and their classes."""
        from domains.medical.bags.cases import read_cases

        table = read_cases(self.config)
        found = Target.find(self.config.target, table.cases)
        if self._plan is not None and self._plan.target.names != found.names:
            raise ConfigurationError(
                f"the model knows the classes {', '.join(self._plan.target.names)}; the cases have "
                f"{', '.join(found.names)}",
                hint="Name the same classes in the same order under target.classes, with their values in the table.",
            )
        self._target = found
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """Instances and features, or the size of a picture. Raises `CaseError` when the case cannot be used."""
        self._known_target().of(case)
        return self._reader.look_at(item_of(case))

    def fit(self, training: Sequence[Case]) -> None:
        """Width, origin, mean and deviation of the features, and the counts of the classes, of the training part."""
        target = self._known_target()
        facts = TrainingFacts(target)
        for case in training:
            facts.add(case.case_id, self._reader.read(item_of(case)), target.of(case))
        pictures = any("image" in case.paths and "bag" not in case.paths for case in training)
        self._plan = facts.plan(pictures=pictures)
        self._scale = facts.scale() if self._features.standardise else None

    def training_data(self, cases: Sequence[Case], *, seed: int) -> BagData:
        """The bags of these cases."""
        from domains.medical.bags.training import BagData

        return BagData(
            cases, self._reader, self._known_target(), most_instances=self._features.most_instances, seed=seed
        )

    def build_network(self) -> BagNetwork:
        """A fresh network. Raises `ConfigurationError` where it refuses its arguments."""
        import torch

        from domains.medical.bags.building import build_network

        plan = self._fitted()
        network = build_network(self._model, features=plan.features, classes=len(plan.target.names))
        if self._scale is not None:
            network.mean.copy_(torch.from_numpy(self._scale[0]))
            network.deviation.copy_(torch.from_numpy(self._scale[1]))
        return network

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`, and the parts that the network has."""
        from domains.medical.bags.loss import class_weights, make_criterion

        plan = self._fitted()
        weights = class_weights(self._loss, plan.target, plan.class_counts, plan.training_bags)
        criterion = make_criterion(plan.target, weights=weights, smoothing=self._loss.label_smoothing)
        inner: Any = getattr(network, "module", network)  # as several processes wrap it
        losses: dict[str, Tensor] = inner.network.losses(
            network(batch["bags"], batch["mask"]), batch["target"], criterion
        )
        return losses

    def predictor(self, network: nn.Module, *, device: torch.device) -> BagPredictor:
        """The network, ready to serve."""
        import torch

        from domains.medical.bags.predictor import BagPredictor
        from pipelines.training.machine import choose_precision

        precision = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
        return BagPredictor(
            network,
            self._fitted(),
            self._reader,
            device=device,
            precision=precision[choose_precision(self._infer.precision, device.type)],
            attention_table=self._infer.attention_table,
            slides=self._infer.slides,
        )

    def item(self, case: Case) -> Item:
        """The bag of a case."""
        return item_of(case)

    def judge(self, case: Case, result: BagPrediction | None) -> list[MetricRow]:
        """Whether the class is right, its probability, and how the attention is spread."""
        return judge_bag(case, result, self._known_target())

    def observe(self, case: Case, result: BagPrediction) -> Observation:
        """Truth, decision and probabilities."""
        return observe_bag(case, result, self._known_target())

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """AUC, accuracies, F1, precision, likelihood and calibration."""
        target = self._known_target()
        return judge_bags(*together(cases, observed, target), target)

    def draw(self, case: Case, result: BagPrediction) -> list[Figure]:
        """The attention of a bag."""
        from domains.medical.bags.curves import draw_bag

        return draw_bag(case, result, self._known_target())

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """Curves, reliability and confusion."""
        from domains.medical.bags.curves import draw_bags

        evaluate = self.config.evaluate
        return draw_bags(cases, observed, self._known_target(), seed=self.config.seed, confidence=evaluate.confidence)

    def describe(self) -> dict[str, Any]:
        """Model, features, loss, inference and plan, as plain values."""
        features = self._features.model_dump(mode="json", exclude={"folder"})
        features["encoder"].pop("weights", None)  # a path; the plan names the weights by their digest
        described = {
            "model": self._model.model_dump(mode="json"),
            "features": features,
            "loss": self._loss.model_dump(mode="json"),
            "infer": self._infer.model_dump(mode="json", exclude={"slides": {"outlines", "encoder_file"}}),
            "plan": self._fitted().describe(),
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> BagTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        plan = BagPlan.from_description(description["plan"])
        sections: dict[str, Any] = {
            "model": TypeAdapter(ModelSettings).validate_python(description["model"]),
            "features": FeatureSettings.model_validate(description["features"]),
            "loss": LossSettings.model_validate(description["loss"]),
            "infer": InferenceSettings.model_validate(description["infer"]),
        }
        # It names no cases, so the `data` section that a workflow must have is not there to be validated.
        task = cls(BagWorkflow.model_construct(task=cls.name, name="served", data=None, **sections))
        task._plan, task._target = plan, plan.target
        return task

    def with_workflow(self, config: WorkflowConfig) -> BagTask:
        """This task's network and features, with the cases of another workflow."""
        other = BagTask(config)
        other._plan, other._target = self._fitted(), None
        other._model, other._loss, other._infer = self._model, self._loss, self._infer
        other._features, other._reader = self._features, self._reader
        return other

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Bags of 16 instances: `bags` `(B, 16, F)` float32, `mask`, `target`."""
        import torch

        plan = self._fitted()
        classes = len(plan.target.names)
        return {
            "bags": torch.zeros(batch_size, 16, plan.features),
            "mask": torch.ones(batch_size, 16, dtype=torch.bool),
            "target": torch.zeros(batch_size, classes) if plan.target.several else torch.zeros(batch_size).long(),
            "case_id": ["example"] * batch_size,
        }

    def _fitted(self) -> BagPlan:
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan

    def _known_target(self) -> Target:
        if self._target is None:
            self.read_cases()
        assert self._target is not None
        return self._target
