"""What the validation part promised, beside what the test part found."""

from __future__ import annotations

import csv
from collections.abc import Callable

import pytest

from pipelines.reporting import build_report
from pipelines.reporting.contents import read_run
from pipelines.reporting.judged import Judged
from pipelines.reporting.report import _optimism
from pipelines.runs import RunFolder


def test_the_chosen_epoch_is_held_against_the_test_part(make: Callable[..., RunFolder]) -> None:
    run = make()
    contents = read_run(run)
    (row,) = _optimism(contents, Judged(contents))
    with run.history.open(newline="") as file:
        promised = next(float(line["validation/dice"]) for line in csv.DictReader(file) if line["epoch"] == "41")
    found = next(one.mean for one in contents.summaries if (one.class_name, one.metric) == ("mean", "dice"))
    assert row["label"] == "Dice"
    assert row["validation"] == pytest.approx(promised)
    assert row["test"] == pytest.approx(found)
    assert row["gap"] == pytest.approx(promised - found)
    assert "Validation against test" in build_report(run).read_text(encoding="utf-8")


def test_without_a_validation_part_there_is_nothing_to_hold(make: Callable[..., RunFolder]) -> None:
    run = make()
    run.update_status(best_score=None)
    contents = read_run(run)
    assert _optimism(contents, Judged(contents)) == []
    assert "Validation against test" not in build_report(run).read_text(encoding="utf-8")
