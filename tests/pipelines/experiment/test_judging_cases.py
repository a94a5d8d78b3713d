"""Judgement walks the reference cases: a failure is told, takes the worst values, and stops nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.experiment.judgement import judge_cases, rows_to_table, write_figures
from pipelines.task import Figure, Item, MetricRow

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
    table = rows_to_table(judgement.rows, CASES)
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
