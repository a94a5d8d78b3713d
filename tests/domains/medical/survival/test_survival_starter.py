"""The starter for survival runs on a table that has the columns it names."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from workflows.main import run


def test_the_starter_runs_on_a_cohort(cohort: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(cohort)
    assert run(["init", "medical/survival", "study"]) == 0
    (cohort / "cohort.csv").rename(cohort / "study" / "cohort.csv")
    assert run(["validate", "study/workflow.yaml"]) == 0
    changes = [
        "split.folds=2",
        "train.batch_size=10",
        "train.epochs=15",
        "train.lr=1e-2",
        "model.widths=[8]",
        "evaluate.resamples=1000",
    ]
    assert run(["run", "study/workflow.yaml", "track.enabled=false", *changes]) == 0
    summary = pd.read_csv(cohort / "runs/my-cohort/001/evaluation/test.summary.csv").set_index(["class", "metric"])
    assert summary.loc[("survival", "c_index"), "cases"] == 60
    assert summary.loc[("survival", "c_index"), "mean"] > 0.6
    report = (cohort / "runs/my-cohort/001/report.html").read_text(encoding="utf-8")
    assert "C-index" in report
    assert "c index" not in report.lower()
