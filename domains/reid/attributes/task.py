"""One embedding for each attribute (type, viewpoint), as the shared pipelines see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from domains.reid.attributes.judgement import METRICS, judge_attribute, value_of
from domains.reid.attributes.settings import AttributeWorkflow
from domains.reid.picture_task import SERVED, PictureTask
from domains.reid.plan import Plan
from pipelines.cases import Case, CaseTable
from pipelines.errors import DataError
from pipelines.evaluation import Metric
from pipelines.task import Figure, MetricRow, Observation
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from domains.reid.predictor import PictureResult
    from domains.reid.training.samples import Targets

__all__ = ["AttributeTask"]


class AttributeTask(PictureTask):
    """Embeds pictures in one space for each attribute, by conditional cross-attention."""

    name: ClassVar[str] = "reid/attributes"
    Config: ClassVar[type[WorkflowConfig]] = AttributeWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "map"
    names_classes: ClassVar[bool] = False
    served: ClassVar[tuple[str, ...]] = (*SERVED, "condition")
    config: AttributeWorkflow

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attributes that the network embeds, in the order of its embeddings."""
        return cast("AttributeWorkflow", self._served).condition.attributes

    def read_cases(self) -> CaseTable:
        """The pictures that `data` names; an identity is a group."""
        from domains.reid.data.cases import case_table, read_records

        return case_table(read_records(self.config.data), group="identity")

    def fit(self, training: Sequence[Case]) -> None:
        """Checks that there is something to tell apart by each attribute.

        Raises:
            DataError: An attribute is not known of two pictures with one value and a third with another.
        """
        for attribute in self.attributes:
            values = [value_of(case, attribute) for case in training if value_of(case, attribute)]
            if len(set(values)) < 2 or len(values) == len(set(values)):
                known = sorted({name for case in training for name in case.labels})
                raise DataError(
                    f"condition.attributes: {attribute!r} has {len(set(values))} values on {len(values)} of "
                    f"{len(training)} training pictures; it needs two values, one of them on two pictures",
                    hint=f"Known of these pictures: {', '.join(known)}.",
                )
        model = self.config.model
        plan = Plan.of(training, named=False, cameras=model.cameras, views=model.views)
        self._plan = Plan((), 0, plan.cameras, plan.views, self.attributes)

    def targets(self, cases: Sequence[Case]) -> Targets:
        """Number of the value of each case, for each attribute; -1 where it is not known."""
        found: dict[str, dict[str, int]] = {}
        for attribute in self.attributes:
            known = sorted({value_of(case, attribute) for case in cases} - {""})
            numbers = {value: number for number, value in enumerate(known)} | {"": -1}
            found[_entry(attribute)] = {case.case_id: numbers[value_of(case, attribute)] for case in cases}
        if self.plan.sides:
            found["side"] = {case.case_id: self.plan.side(case.labels) for case in cases}
        return found

    def build_network(self) -> nn.Module:
        """A fresh network; with the weights that the workflow names, unless a model folder will give its own."""
        from domains.reid.attributes.network import AttributeEmbedder
        from domains.reid.building import build_vit

        served = cast("AttributeWorkflow", self._served)
        vit, heads = build_vit(served.model, served.input, sides=self.plan.sides, pretrained=not self._from_folder)
        return AttributeEmbedder(vit, attributes=len(self.attributes), heads=heads, fusion=served.condition.fusion)

    def loss_step(self, network: nn.Module, batch: Any) -> dict[str, Tensor]:
        """`loss`, the mean of the triplet losses of the attributes, and each of them."""
        import torch

        from domains.reid.losses import attribute_triplet_loss

        embedded = network(batch["image"], batch.get("side"))  # (B, A, C)
        margin = cast("AttributeWorkflow", self._served).condition.margin
        parts = {
            attribute: attribute_triplet_loss(embedded[:, place], batch[_entry(attribute)], margin=margin)
            for place, attribute in enumerate(self.attributes)
        }
        told = {f"{attribute}_triplet": value.detach() for attribute, value in parts.items()}
        return {"loss": torch.stack(list(parts.values())).mean(), **told}

    def judge(self, case: Case, result: PictureResult | None) -> list[MetricRow]:
        """Nothing: a picture alone has no rank."""
        return []

    def observe(self, case: Case, result: PictureResult) -> Observation:
        """Its embeddings."""
        return {"embedding": result.embedding}

    def judge_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[MetricRow]:
        """Average precision of each picture for each attribute."""
        return [
            row
            for place, attribute in enumerate(self.attributes)
            for row in judge_attribute(cases, observed, attribute, place)
        ]

    def draw(self, case: Case, result: Any) -> list[Figure]:
        """Nothing."""
        return []

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """Ranked lists of the worst queries of each attribute, and of the best one."""
        from domains.reid.attributes.drawing import draw_attribute

        return [
            figure
            for place, attribute in enumerate(self.attributes)
            for figure in draw_attribute(cases, observed, attribute, place, self.given)
        ]

    def check_cases_fit(self) -> None:
        """Any pictures can be compared."""

    def example_batch(self, batch_size: int) -> dict[str, Any]:
        """Zeros: `image` `(B, 3, H, W)` float32, a number `(B,)` int64 for each attribute, and `side` where told."""
        import torch

        batch: dict[str, Any] = {
            "image": torch.zeros(batch_size, 3, *self.given.size),
            "case_id": ["example"] * batch_size,
        }
        batch |= {_entry(attribute): torch.arange(batch_size) // 2 for attribute in self.attributes}
        if self.plan.sides:
            batch["side"] = torch.zeros(batch_size, dtype=torch.int64)
        return batch


def _entry(attribute: str) -> str:
    """The name of its numbers in a batch."""
    return f"attribute {attribute}"
