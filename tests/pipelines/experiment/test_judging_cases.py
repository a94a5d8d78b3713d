"""Judgement walks the reference cases: a failure is told, takes the worst values, and stops nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.evaluation import EvaluationSettings, Metric
from pipelines.experiment.judgement import judge_cases, summarise_judgement, write_figures, write_tables
from pipelines.task import Figure, Item, MetricRow, Observation, Task

CASES = tuple(Case(f"case{number}", f"patient{number // 2}", {}) for number in range(4))


class Reader:
    """Stands in for a predictor: the result is the item's name, unless reading or inferring fails."""

    def __init__(self, failures: dict[str, Exception]) -> None:
        self.failures = failures

    def read(self, item: Item) -> str:
        return item.item_id

    def infer(self, loaded: str) -> str:
        if loaded in self.failures:
            raise self.failures[loaded]
        return loaded


class Judge:
    """Stands in for a task: right is 1, nothing is 0."""

    metrics: Mapping[str, Metric] = {}
    reference, observe, judge_set, pooled = Task.reference, Task.observe, Task.judge_set, Task.pooled

    def item(self, case: Case) -> Item:
        return Item(case.case_id, ())

    def judge(self, case: Case, result: Any) -> list[MetricRow]:
        return [MetricRow(case.case_id, "whole", "dice", 0.0 if result is None else 1.0)]


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param(CaseError("case1", "slice 4 is missing"), "slice 4 is missing", id="named reason"),
        pytest.param(MemoryError("no room"), "MemoryError: no room", id="memory"),
        pytest.param(RuntimeError("odd shape"), "RuntimeError: odd shape", id="network"),
    ],
)
def test_a_failed_prediction_takes_the_worst_value_and_is_told(error: Exception, reason: str) -> None:
    advanced: list[int] = []
    judgement = judge_cases(Judge(), Reader({"case1": error}), CASES, advance=lambda: advanced.append(1))  # type: ignore[arg-type]
    table = judgement.table
    assert judgement.failures == {"case1": reason}
    assert list(table["value"]) == [1.0, 0.0, 1.0, 1.0]
    assert list(table["note"]) == ["", f"failed: {reason}", "", ""]
    assert list(table["group"]) == ["patient0", "patient0", "patient1", "patient1"]
    assert len(advanced) == 4
    assert set(judgement.seconds) == {case.case_id for case in CASES}


def test_a_mistake_in_the_code_is_not_taken_for_a_failed_case() -> None:
    with pytest.raises(AttributeError):
        judge_cases(Judge(), Reader({"case1": AttributeError("typo")}), CASES)  # type: ignore[arg-type]


def test_figures_are_written_with_their_numbers(tmp_path: Path) -> None:
    import pandas as pd

    image = np.arange(4 * 5 * 3, dtype=np.uint8).reshape(4, 5, 3)
    entries = write_figures(
        [Figure("worst", image, "The worst case.", pd.DataFrame({"slice": [1, 2]}), "case1"), Figure("b", image, "B.")],
        tmp_path,
    )
    assert entries[0] == {"name": "worst", "caption": "The worst case.", "case_id": "case1"}
    assert np.array_equal(np.asarray(Image.open(tmp_path / "worst.png")), image)
    assert (tmp_path / "worst.csv").read_text() == "slice\n1\n2\n"
    assert not (tmp_path / "b.csv").exists()


class Sorter(Judge):
    """Stands in for a task that is judged on its set: the last case is a gallery, and takes part only."""

    def reference(self, cases: Sequence[Case]) -> Sequence[Case]:
        return [case for case in cases if case.case_id != "case3"]

    def observe(self, case: Case, result: Any) -> Observation:
        return {"score": float(case.case_id[-1]), "embedding": np.zeros(3)}

    def judge_set(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> list[MetricRow]:
        walked = self.reference(cases)
        return [MetricRow(c.case_id, "all", "rank", float(c.case_id in observed)) for c in walked]

    def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
        scores = [observed[case.case_id]["score"] for case in cases if case.case_id in observed]
        return {("a", "top"): max(scores), ("b", "top"): min(scores), ("a", "odd"): float("nan")}


def test_a_set_is_judged_as_a_whole_and_a_failed_case_keeps_its_reason(tmp_path: Path) -> None:
    task = Sorter()
    judgement = judge_cases(task, Reader({"case1": MemoryError("no room")}), CASES)  # type: ignore[arg-type]
    table = judgement.table
    assert set(table["case_id"]) == {"case0", "case1", "case2"}
    rank = table[table["metric"] == "rank"].set_index("case_id")
    assert dict(rank["value"]) == {"case0": 1.0, "case1": 0.0, "case2": 1.0}
    assert rank.loc["case1", "note"] == "failed: MemoryError: no room"

    summary = summarise_judgement(task, judgement, EvaluationSettings(), seed=0)  # type: ignore[arg-type]
    by_name = {(row["class"], row["metric"]): row for row in summary.to_dict("records")}
    assert by_name["a", "top"]["mean"] == 3.0
    assert by_name["mean", "top"]["mean"] == 1.5
    # Two groups: a resample holds both, or one of them twice.
    assert (by_name["a", "top"]["low"], by_name["a", "top"]["high"]) == (0.0, 3.0)
    assert by_name["mean", "top"]["failed"] == 1
    assert by_name["a", "odd"]["undefined"] == 1
    assert np.isnan(by_name["a", "odd"]["low"])
    assert by_name["all", "rank"]["cases"] == 3

    write_tables(judgement.table, judgement.predictions, summary, tmp_path, "test")
    lines = (tmp_path / "test.predictions.csv").read_text().splitlines()
    assert lines == ["case_id,group,score", "case0,patient0,0.0", "case2,patient1,2.0", "case3,patient1,3.0"]


def test_a_task_that_observes_nothing_writes_no_predictions(tmp_path: Path) -> None:
    judgement = judge_cases(Judge(), Reader({}), CASES)  # type: ignore[arg-type]
    summary = summarise_judgement(Judge(), judgement, EvaluationSettings(), seed=0)  # type: ignore[arg-type]
    write_tables(judgement.table, judgement.predictions, summary, tmp_path, "test")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["test.cases.csv", "test.summary.csv"]
