"""Each picture is judged once; what a class has as a whole is its recall."""

from __future__ import annotations

import numpy as np
import pytest

from domains.reid.classification.judgement import METRICS, judge_guess, pooled_metrics
from pipelines.cases import Case
from pipelines.evaluation import summarise, summarise_pooled

CLASSES = ("daisy", "iris", "tulip")
TRUTH = ("daisy", "daisy", "iris", "tulip", "iris")
GUESS = ("daisy", "iris", "iris", "tulip", None)
CASES = [Case(f"c{number}", f"c{number}", {}, {"identity": name}) for number, name in enumerate(TRUTH)]


def logits(guess: str) -> np.ndarray:
    scores = np.where(np.array(CLASSES) == guess, 0.8, 0.1)
    return np.log(scores).astype(np.float32)


def test_a_class_is_not_judged_by_the_pictures_of_others() -> None:
    rows = [
        row
        for case, guess in zip(CASES, GUESS, strict=True)
        for row in judge_guess(case, None if guess is None else logits(guess), CLASSES)
    ]
    import pandas as pd

    table = pd.DataFrame([(r.case_id, r.class_name, r.metric, r.value, r.note) for r in rows])
    table.columns = ["case_id", "class", "metric", "value", "note"]
    by_metric = summarise(table, CASES, metrics=METRICS, resamples=1000).query("`class` == 'picture'")
    by_metric = by_metric.set_index("metric")
    assert by_metric.loc["correct", "mean"] == pytest.approx(3 / 5)
    assert by_metric.loc["likelihood", "mean"] == pytest.approx((3 * 0.8 + 0.1 + 0) / 5)
    assert by_metric.loc["correct", "failed"] == 1


def test_recall_is_of_the_pictures_of_a_class() -> None:
    observed = {
        case.case_id: {"rank": 1 if guess == truth else 2}
        for case, truth, guess in zip(CASES, TRUTH, GUESS, strict=True)
        if guess is not None
    }
    summary = summarise_pooled(lambda cases: pooled_metrics(cases, observed), CASES, resamples=200)
    values = {(row["class"], row["metric"]): row["mean"] for row in summary.to_dict("records")}
    assert values["daisy", "recall"] == values["iris", "recall"] == 0.5
    assert values["tulip", "recall"] == 1
    assert values["mean", "recall"] == pytest.approx(2 / 3)
    assert values["mean", "accuracy"] == pytest.approx(3 / 5)
