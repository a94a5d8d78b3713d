"""Survival of patients, as the shared pipelines see it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from domains.medical.survival.cases import TABLE, read_patients
from domains.medical.survival.data_settings import BagFiles, SimulatedBags
from domains.medical.survival.judging import METRICS, judge_patient, judge_set, observe_patient
from domains.medical.survival.settings import CoxLoss, GenomicSettings, SurvivalWorkflow
from pipelines.cases import Case, CaseTable
from pipelines.errors import CaseError, DataError
from pipelines.evaluation.metric import Metric
from pipelines.task import Figure, Item, MetricRow, Observation, Task
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from domains.medical.survival.building import Scale
    from domains.medical.survival.patients import FeatureTable
    from domains.medical.survival.plan import Plan
    from domains.medical.survival.predictor import SurvivalPrediction, SurvivalPredictor
    from domains.medical.survival.samples import PatientSamples

__all__ = ["SurvivalTask"]


class SurvivalTask(Task):
    """Foretells when patients have an event, from genomics, from bags of slide features, or from both.

    Args:
        config: The workflow.
    """

    name: ClassVar[str] = "medical/survival"
    Config: ClassVar[type[WorkflowConfig]] = SurvivalWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "c_index"
    pools_folds: ClassVar[bool] = False  # risks of different models are on different scales
    ranking_metric: ClassVar[str] = "integrated_brier"
    config: SurvivalWorkflow

    def __init__(self, config: WorkflowConfig) -> None:
        if not isinstance(config, SurvivalWorkflow):
            raise TypeError(f"{self.name} takes a SurvivalWorkflow, got {type(config).__name__}")
        super().__init__(config)
        self._plan: Plan | None = None
        self._scale: Scale | None = None
        self._names: tuple[str, ...] | None = None
        self._model, self._loss, self._genomics = config.model, config.loss, config.genomics

    def read_cases(self) -> CaseTable:
        """The patients of the table; simulated bags are written first."""
        data = self.config.data
        table = read_patients(data)
        if isinstance(data.bags, SimulatedBags) and self._model.name != "snn":
            from domains.medical.survival.bags import simulate_bags

            return simulate_bags(table, data.bags, Path(self.config.output))
        return table

    def check_case(self, case: Case) -> dict[str, Any]:
        """How many features have no value, and how many instances there are. Raises `CaseError`."""
        import numpy as np

        facts: dict[str, Any] = {}
        if self._looks_at_features:
            row = self._features().row(case.case_id)
            if row is None or np.isnan(row).all():
                raise CaseError(case.case_id, "no feature has a value", hint="Remove the row, or fill in its columns.")
            facts["missing"] = int(np.isnan(row).sum())
        if self._looks_at_bags:
            from domains.medical.survival.bags import bag_shape

            facts["instances"], facts["bag_features"] = bag_shape(case.case_id, case.files("bag"))
        return facts

    def fit(self, training: Sequence[Case]) -> None:
        """Cuts time into intervals, and measures scales, groups of features and follow-up, on the training part."""
        import numpy as np

        from domains.medical.survival.plan import Plan, measure_follow_up

        time = np.array([case.labels["time"] for case in training], dtype=float)
        event = np.array([case.labels["event"] for case in training], dtype=np.int64)
        intervals, baseline, judging = measure_follow_up(time, event, count=self.config.intervals)
        bags = self.config.data.bags
        column = (bags.column, bags.suffix) if isinstance(bags, BagFiles) else ("bag", "")
        self._scale, groups = self._fit_features(training)
        self._plan = Plan(
            case_id=self.config.data.case_id,
            unit=self.config.data.unit,
            features=self._features().names if self._looks_at_features else (),
            groups=groups,
            bag_column=column if self._looks_at_bags else None,
            bag_features=self._width_of_instances(training) if self._looks_at_bags else None,
            intervals=intervals,
            baseline=baseline,
            judging=judging,
            synthetic=self._looks_at_bags and isinstance(bags, SimulatedBags),
        )

    def training_data(self, cases: Sequence[Case], *, seed: int) -> PatientSamples:
        """One sample for each patient."""
        import numpy as np

        from domains.medical.survival.bags import BagStore
        from domains.medical.survival.samples import PatientSamples

        plan, settings = self._fitted(), self.config.bags
        time = np.array([case.labels["time"] for case in cases], dtype=float)
        store = None
        if plan.bag_features is not None:
            store = BagStore(tuple(cases), plan.bag_features, int(settings.cache_gigabytes * 2**30))
        return PatientSamples(
            case_ids=tuple(case.case_id for case in cases),
            features=self._rows(cases) if self._looks_at_features else None,
            intervals=plan.intervals.of(time),
            time=time,
            event=np.array([case.labels["event"] for case in cases], dtype=np.int64),
            read_bag=store,
            limit=settings.limit,
            seed=seed,
        )

    def build_network(self) -> nn.Module:
        """A fresh network."""
        from domains.medical.survival.building import build_network

        return build_network(self._model, self._loss, self._genomics, self._fitted(), self._scale)

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss` of a batch, and its parts where there are several."""
        from domains.medical.survival.losses import ce_loss, cox_loss, nll_loss

        settings = self._loss
        output = network(batch.get("genomics"), batch.get("bags"), batch.get("mask"))
        parts = {name: settings.alignment * value for name, value in output.losses.items()}
        if isinstance(settings, CoxLoss):
            parts["cox"] = cox_loss(output.risk, batch["time"], batch["event"], ties=settings.ties)
            parts["baseline"] = nll_loss(output.hazards, batch["interval"], batch["event"])
        else:
            likelihood = nll_loss if settings.name == "nll" else ce_loss
            parts[settings.name] = likelihood(output.hazards, batch["interval"], batch["event"], alpha=settings.alpha)
        total = sum(parts.values(), start=output.risk.new_zeros(()))
        return {"loss": total, **(parts if len(parts) > 1 else {})}

    def predictor(self, network: nn.Module, *, device: torch.device) -> SurvivalPredictor:
        """The network, ready to serve."""
        from domains.medical.survival.networks.contract import SurvivalNetwork
        from domains.medical.survival.predictor import SurvivalPredictor

        if not isinstance(network, SurvivalNetwork):
            raise TypeError(f"a survival task serves a SurvivalNetwork, got {type(network).__name__}")
        return SurvivalPredictor(network, self._fitted(), device=device, genomics=self._looks_at_features)

    def item(self, case: Case) -> Item:
        """The row of a patient, and its bags."""
        paths = (case.paths[TABLE], *case.files("bag"))
        return Item(case.case_id, paths, kind="patient", detail={"patient": case.case_id})

    def judge(self, case: Case, result: SurvivalPrediction | None) -> list[MetricRow]:
        """Error over time and likelihood."""
        return judge_patient(case, result, self._fitted())

    def observe(self, case: Case, result: SurvivalPrediction) -> Observation:
        """Risk, probabilities of an event, and what weighs against censoring."""
        return observe_patient(case, result, self._fitted(), self.config.judge.times)

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """Concordance and time-dependent AUC."""
        return judge_set(cases, observed, self.config.judge.times, self.config.data.unit)

    def draw(self, case: Case, result: SurvivalPrediction) -> list[Figure]:
        """The curve of one patient."""
        from domains.medical.survival.figures import draw_patient

        return [draw_patient(case, result, self._fitted())]

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """Survival by group of risk, and calibration."""
        from domains.medical.survival.figures import draw_calibration, draw_risk_groups

        judge, unit = self.config.judge, self.config.data.unit
        simulated = self._looks_at_bags and isinstance(self.config.data.bags, SimulatedBags)
        drawn = draw_risk_groups(cases, observed, groups=judge.groups, unit=unit, simulated=simulated)
        if judge.times:
            middle = sorted(judge.times)[len(judge.times) // 2]
            drawn += draw_calibration(cases, observed, time=middle, unit=unit, simulated=simulated)
        return drawn

    def describe(self) -> dict[str, Any]:
        """Model, loss (which decides the head) and plan, as plain values."""
        plan = self._fitted()
        described = {
            "model": self._model.model_dump(mode="json"),
            "loss": self._loss.model_dump(mode="json"),
            # What features are scaled by is stored with the weights; how they were grouped is in the plan.
            "genomics": self._genomics.model_dump(mode="json", include={"scale", "clip"}),
            "plan": plan.describe(),
            "synthetic": plan.synthetic,
        }
        plain: dict[str, Any] = json.loads(json.dumps(described))
        return plain

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> SurvivalTask:
        """A task that builds the network and its predictor; `with_workflow` gives it cases."""
        from pydantic import TypeAdapter

        from domains.medical.survival.plan import Plan
        from domains.medical.survival.settings import LossSettings, ModelSettings

        sections: dict[str, Any] = {
            "model": TypeAdapter(ModelSettings).validate_python(description["model"]),
            "loss": TypeAdapter(LossSettings).validate_python(description["loss"]),
            "genomics": GenomicSettings.model_validate(description["genomics"]),
        }
        # It names no patients, so the `data` section that a workflow must have is not there to be validated.
        config = SurvivalWorkflow.model_construct(task=cls.name, name="served", data=None, **sections)
        task = cls(config)
        task._plan = Plan.from_description(description["plan"])
        return task

    def with_workflow(self, config: WorkflowConfig) -> SurvivalTask:
        """This task's network, with the patients of another workflow."""
        other = SurvivalTask(config)
        other._plan, other._scale = self._fitted(), self._scale
        other._model, other._loss, other._genomics = self._model, self._loss, self._genomics
        return other

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `genomics` `(B, F)`, `bags` `(B, 64, C)`, and outcomes."""
        import torch

        plan = self._fitted()
        batch: dict[str, Any] = {
            "case_id": ["example"] * batch_size,
            "interval": torch.zeros(batch_size, dtype=torch.int64),
            "time": torch.ones(batch_size),
            "event": torch.ones(batch_size),
        }
        if self._looks_at_features:
            batch["genomics"] = torch.zeros(batch_size, len(plan.features))
        if plan.bag_features is not None:
            batch["bags"] = torch.zeros(batch_size, 64, plan.bag_features)
            batch["mask"] = torch.ones(batch_size, 64, dtype=torch.bool)
        return batch

    @property
    def _looks_at_features(self) -> bool:
        return self._model.name != "slides"

    @property
    def _looks_at_bags(self) -> bool:
        return self._model.name != "snn"

    def _features(self) -> FeatureTable:
        """The features of all patients; their columns are those of the plan, once there is one."""
        from domains.medical.survival.patients import load_features, load_table, match_columns

        data = self.config.data
        if self._plan is not None:
            names: Sequence[str] = self._plan.features
        else:
            if self._names is None:
                columns = list(load_table(data.file, case_id=data.case_id).columns)
                self._names = match_columns(columns, (*data.features, *data.covariates))
            names = self._names
        if not names:
            patterns = ", ".join((*data.features, *data.covariates))
            raise DataError(f"{data.file.name}: no column fits {patterns}", hint="Check data.features.")
        return load_features(data.file, case_id=data.case_id, names=names)

    def _rows(self, cases: Sequence[Case]) -> Any:
        """`(N, F)` float32."""
        import numpy as np

        table = self._features()
        rows = [table.row(case.case_id) for case in cases]
        missing = [case.case_id for case, row in zip(cases, rows, strict=True) if row is None]
        if missing:
            raise DataError(f"{self.config.data.file.name} has no row of {missing[0]}")
        return np.stack([row for row in rows if row is not None])

    def _fit_features(self, training: Sequence[Case]) -> tuple[Scale | None, dict[str, tuple[int, ...]]]:
        """What features are scaled by, and their groups where the network has any."""
        if not self._looks_at_features:
            return None, {}
        from domains.medical.survival.grouping import group_features
        from domains.medical.survival.patients import match_columns
        from domains.medical.survival.scaling import apply_scale, measure_scale

        values, names = self._rows(training), self._features().names
        settings = self._genomics
        scale = measure_scale(values, settings.scale)
        if self._model.name != "cmta":
            return scale, {}
        scaled = apply_scale(values, *scale, clip=settings.clip)
        covariates = match_columns(names, self.config.data.covariates)
        return scale, group_features(settings.groups, names, covariates, scaled, seed=self.config.seed)

    def _width_of_instances(self, training: Sequence[Case]) -> int:
        from domains.medical.survival.bags import bag_shape

        widths = {bag_shape(case.case_id, case.files("bag"))[1] for case in training}
        if len(widths) > 1:
            raise DataError(
                f"bags have {' and '.join(map(str, sorted(widths)))} features an instance",
                hint="Bags of one model come from one encoder.",
            )
        return widths.pop()

    def _fitted(self) -> Plan:
        if self._plan is None:
            raise RuntimeError("the task has not seen its training cases: call fit first")
        return self._plan
