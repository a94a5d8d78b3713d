"""Re-identification and retrieval, as the shared pipelines see it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from domains.reid.picture_task import PictureTask
from domains.reid.retrieval.judgement import METRICS, draw_rankings, judge_queries
from domains.reid.retrieval.roles import Roles, check_cameras, roles_of, rounds_of
from domains.reid.retrieval.rounds import Rounds
from domains.reid.retrieval.settings import RetrievalWorkflow
from pipelines.cases import Case, CaseTable
from pipelines.evaluation import Metric
from pipelines.task import Figure, MetricRow, Observation
from pipelines.workflow import WorkflowConfig

if TYPE_CHECKING:
    from domains.reid.predictor import PictureResult
    from domains.reid.training.batches import BalancedOrder

__all__ = ["RetrievalTask"]


class RetrievalTask(PictureTask):
    """Finds pictures of the same identity. Identities of the training part are never searched for."""

    name: ClassVar[str] = "reid/retrieval"
    Config: ClassVar[type[WorkflowConfig]] = RetrievalWorkflow
    metrics: ClassVar[Mapping[str, Metric]] = METRICS
    selection_metric: ClassVar[str] = "map"
    names_classes: ClassVar[bool] = False
    config: RetrievalWorkflow
    _rounds: Rounds | None = None

    def read_cases(self) -> CaseTable:
        """The pictures that `data` names; an identity is a group. Raises `DataError` for a camera that took none."""
        from domains.reid.data.cases import case_table, read_records

        table = case_table(read_records(self.config.data), group="identity")
        check_cameras(table, self.config.judge)
        return table

    def fit(self, training: Sequence[Case]) -> None:
        """Counts identities, cameras and views, and whether there are enough for a batch. Raises `DataError`."""
        super().fit(training)
        self.order(training)

    def order(self, cases: Sequence[Case]) -> BalancedOrder | None:
        """Batches of P identities with K pictures each."""
        from domains.reid.training.batches import BalancedOrder

        sampling = self.config.sampling
        if not sampling.balanced:
            return None
        order = BalancedOrder(
            [str(case.labels["identity"]) for case in cases],
            cameras=[str(case.labels.get("camera", "")) for case in cases] if sampling.cameras else None,
            images=sampling.images,
            repeat=sampling.repeat,
        )
        order.shape(self.config.train.batch_size)
        return order

    def judge(self, case: Case, result: PictureResult | None) -> list[MetricRow]:
        """Nothing: a picture alone has no rank."""
        return []

    def observe(self, case: Case, result: PictureResult) -> Observation:
        """Its embedding."""
        return {"identity": str(case.labels.get("identity", "")), "embedding": result.embedding}

    def reference(self, cases: Sequence[Case]) -> Sequence[Case]:
        """The queries; the gallery only takes part. With rounds, all that ever ask."""
        if self.config.judge.protocol == "one_each":
            asking = {case.case_id for roles in rounds_of(cases, self.config.judge) for case in roles.queries}
            return tuple(case for case in cases if case.case_id in asking)
        return self._roles(cases).queries

    def judge_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[MetricRow]:
        """Average precision, inverse negative penalty and ranks of each query; with rounds, its means over them."""
        if self.config.judge.protocol == "one_each":
            settings = self.config.judge
            self._rounds = Rounds(rounds_of(cases, settings), observed, settings)
            return self._rounds.rows()
        return judge_queries(self._roles(cases), observed, self.config.judge)

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        """With rounds, the mean of the rounds, as VehicleID reports it. `judge_set` comes first.

        Of folds that were read back nothing is told: embeddings are not kept.
        """
        embedded = any("embedding" in seen for seen in observed.values())
        return {} if self._rounds is None or not embedded else self._rounds.means(cases)

    def draw(self, case: Case, result: Any) -> list[Figure]:
        """Nothing: ranked lists show queries with all that they were ranked among."""
        return []

    def draw_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[Figure]:
        """The cumulative matching curve, and ranked lists of the worst queries."""
        return draw_rankings(self._roles(cases), observed, self.config.judge, self.given)

    def check_cases_fit(self) -> None:
        """Any pictures can be searched."""

    def _roles(self, cases: Sequence[Case]) -> Roles:
        return roles_of(cases, self.config.judge, data_format=self.config.data.format)
