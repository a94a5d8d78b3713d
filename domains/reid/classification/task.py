"""Fine-grained classification, as the shared pipelines see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from domains.reid.classification.judgement import METRICS, draw_confusion, judge_guess, pooled_metrics, rank_of
from domains.reid.classification.settings import ClassificationWorkflow
from domains.reid.picture_task import PictureTask
from pipelines.cases import Case, CaseTable
from pipelines.errors import ConfigurationError
from pipelines.evaluation import Metric
from pipelines.task import Figure, MetricRow, Observation
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    import torch
    from torch import nn

    from domains.reid.predictor import PicturePredictor, PictureResult

__all__ = ["ClassificationTask"]


class ClassificationTask(PictureTask):
    """Tells classes that look alike. Pictures of a class stand in every part; a track stays together."""

    name: ClassVar[str] = "reid/classification"
    Config: ClassVar[type[WorkflowConfig]] = ClassificationWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "accuracy"
    ranking_metric: ClassVar[str] = "likelihood"
    names_classes: ClassVar[bool] = True
    config: ClassificationWorkflow

    def read_cases(self) -> CaseTable:
        """The pictures that `data` names. Raises `ConfigurationError` where a trained model knows other classes."""
        from domains.reid.data.cases import case_table, read_records

        table = case_table(read_records(self.config.data), group="image")
        if self._plan is not None:
            found = sorted({str(case.labels["identity"]) for case in table})
            unknown = [name for name in found if name not in self._plan.classes]
            if unknown:
                raise ConfigurationError(
                    f"the model knows {len(self._plan.classes)} classes; {unknown[0]!r} is none of them",
                    hint=f"It knows: {', '.join(self._plan.classes[:8])}, …",
                )
        return table

    def predictor(self, network: nn.Module, *, device: torch.device) -> PicturePredictor:
        """The network, ready to serve; kept for drawing where it looks."""
        self._network = network
        return super().predictor(network, device=device)

    def judge(self, case: Case, result: PictureResult | None) -> list[MetricRow]:
        """Whether the class was found, at once or among the first five."""
        return judge_guess(case, None if result is None else result.logits, self.plan.classes)

    def observe(self, case: Case, result: PictureResult) -> Observation:
        """The guess, its probability, and the place of the right class."""
        import numpy as np

        classes = self.plan.classes
        best = int(np.argmax(result.logits))
        name = str(case.labels["identity"])
        return {
            "class": name,
            "guess": classes[best],
            "probability": float(np.exp(result.logits[best])),
            "rank": rank_of(result.logits, classes.index(name)),
        }

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """Accuracy over all pictures."""
        return pooled_metrics(cases, observed)

    def draw(self, case: Case, result: PictureResult) -> list[Figure]:
        """The picture beside where the network looked: roll-out of its attention, or evidence of its maps."""
        from domains.reid.classification.looking import draw_look

        return [draw_look(case, result, self._network, self.given, self.plan)]

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """The confusion matrix."""
        return draw_confusion(cases, observed, self.plan.classes)

    def check_cases_fit(self) -> None:
        """Classes are compared when the cases are read."""
