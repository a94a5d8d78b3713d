"""Every fold is a run of its own, each case is judged by the model that has not seen it, and one result comes out."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pipelines.cases import Case, CaseTable
from pipelines.config import ResolvedWorkflow, load_workflow
from pipelines.errors import ConfigurationError, Interrupted
from pipelines.experiment import single
from pipelines.experiment.runner import run_workflow
from pipelines.task import Figure, Observation, TaskEntry, registered_tasks

WORKFLOW = """
task: toy/folds
name: trial
split: {folds: 3, validation: 0}
cross_validation: {repeats: 2}
train: {epochs: 1, batch_size: 2, precision: fp32, workers: 0, device: cpu}
track: {system_metrics: false}
"""


@pytest.fixture(scope="module")
def task_class(request: pytest.FixtureRequest) -> Iterator[type[Any]]:
    """The toy task with a table of nine cases, known to workflows as `toy/folds`."""
    import importlib.util
    import sys

    from pipelines import task as tasks
    from pipelines.workflow import WorkflowConfig

    path = Path(__file__).parents[1] / "training" / "toy_task.py"
    spec = importlib.util.spec_from_file_location("folds_toy_task", path)
    assert spec is not None
    assert spec.loader is not None
    toy: ModuleType = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = toy
    spec.loader.exec_module(toy)

    class FoldTask(toy.ToyTask):  # type: ignore[misc, name-defined]
        name = "toy/folds"
        Config = WorkflowConfig

        def __init__(self, config: Any) -> None:
            super().__init__()
            self.config = config

        def read_cases(self) -> CaseTable:
            cases = [replace(case, labels={"site": "ab"[at % 2]}) for at, case in enumerate(toy.make_cases(9))]
            return CaseTable(tuple(cases), Path(), "toy")

        def observe(self, case: Case, result: Any) -> Observation:
            return {"bright": float(result.mean()), "seen_by": str(self.config.split.fold)}

        def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
            return {("all", "spread"): max(observed[c.case_id]["bright"] for c in cases)}

        def draw(self, case: Case, result: Any) -> list[Figure]:
            picture = np.zeros((4, 4, 3), np.uint8)
            told = pd.DataFrame({"bright": [float(result.mean())]})
            return [Figure(f"seen-{case.case_id}", picture, "what was seen", told, case.case_id)]

        @classmethod
        def from_description(cls, description: Mapping[str, Any]) -> Any:
            return cls(None)

        def with_workflow(self, config: Any) -> Any:
            return type(self)(config)

    toy.FoldTask = FoldTask
    tasks._TASKS["toy/folds"] = TaskEntry("toy/folds", "folds_toy_task:FoldTask", "for tests")
    yield FoldTask
    del tasks._TASKS["toy/folds"], sys.modules[spec.name]
    assert all(entry.name != "toy/folds" for entry in registered_tasks())


def resolved(folder: Path, *overrides: str) -> ResolvedWorkflow:
    (folder / "trial.yaml").write_text(WORKFLOW)
    return load_workflow(folder / "trial.yaml", [f"output={folder / 'runs'}", *overrides])


@pytest.fixture(scope="module")
def finished(task_class: type[Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation that was stopped in its fourth run, and resumed."""
    folder = tmp_path_factory.mktemp("folds")
    once, calls = single.judge_cases, []

    def stop_in_the_fourth(*arguments: Any, **more: Any) -> Any:
        calls.append(1)
        if len(calls) == 4:
            raise Interrupted("stopped by a test")
        return once(*arguments, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(single, "judge_cases", stop_in_the_fourth)
        with pytest.raises(Interrupted):
            run_workflow(resolved(folder))
        run = folder / "runs/trial/001"
        assert json.loads((run / "status.json").read_text())["state"] == "interrupted"
        assert len(list(run.glob("folds/*/model/model.yaml"))) == 3
        run_workflow(resolved(folder), resume=True)
    assert len(calls) == 7  # three kept, the fourth judged again
    return run


def test_each_case_is_in_one_test_part_of_each_repeat(finished: Path) -> None:
    folds = sorted((finished / "folds").iterdir())
    assert [fold.name for fold in folds] == [f"repeat-{r}-fold-{f:02d}" for r in (0, 1) for f in (0, 1, 2)]
    tests = [json.loads((fold / "splits.json").read_text())["parts"]["test"] for fold in folds]
    for repeat in (tests[:3], tests[3:]):
        assert sorted(case_id for part in repeat for case_id in part) == [f"case{n:02d}" for n in range(9)]
    assert tests[:3] != tests[3:]


def test_the_result_puts_the_folds_together(finished: Path) -> None:
    rows = pd.read_csv(finished / "evaluation/test.cases.csv")
    assert rows.groupby(["class", "metric"]).size().to_dict() == {("bright", "accuracy"): 9, ("dark", "accuracy"): 9}
    own = [pd.read_csv(path) for path in sorted(finished.glob("folds/*/evaluation/test.cases.csv"))]
    one = pd.concat(own).query("case_id == 'case04' and `class` == 'dark'")
    assert len(one) == 2
    joint = rows.query("case_id == 'case04' and `class` == 'dark'")
    assert float(joint["value"].iloc[0]) == pytest.approx(one["value"].mean())

    predictions = pd.read_csv(finished / "evaluation/test.predictions.csv")
    assert len(predictions) == 18
    assert (predictions["seen_by"] == predictions["fold"]).all()
    summary = pd.read_csv(finished / "evaluation/test.summary.csv").set_index(["class", "metric"])
    expected = predictions.groupby("repeat")["bright"].max().mean()  # the folds of a repeat are one set
    assert summary.loc[("all", "spread"), "mean"] == pytest.approx(expected)
    assert summary.loc[("all", "spread"), "low"] <= expected
    assert set(pd.read_csv(finished / "evaluation/folds.csv")["fold"]) == {0, 1, 2}


def test_where_models_cannot_be_compared_each_fold_is_taken_by_itself(
    finished: Path, task_class: type[Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(task_class, "pools_folds", False)
    outcome = run_workflow(resolved(tmp_path, "cross_validation.repeats=1", "track.enabled=false"))
    predictions = pd.read_csv(outcome.run.evaluation / "test.predictions.csv")
    summary = outcome.summary.set_index(["class", "metric"])
    expected = predictions.groupby("fold")["bright"].max().mean()
    assert summary.loc[("all", "spread"), "mean"] == pytest.approx(expected)


def test_folds_are_children_in_the_tracking_store(finished: Path) -> None:
    with closing(sqlite3.connect(finished.parents[1] / "tracking/mlflow.db")) as store:
        runs = dict(store.execute("select run_uuid, status from runs"))
        parents = dict(store.execute("select run_uuid, value from tags where key = 'mlflow.parentRunId'"))
    (parent,) = set(parents.values())
    assert len(parents) == 6
    assert set(runs) == {*parents, parent}
    assert set(runs.values()) == {"FINISHED"}


def test_the_report_shows_the_folds(finished: Path) -> None:
    report = (finished / "report.html").read_text()
    assert "Fold by fold" in report
    assert "Mean of folds" in report
    assert "This report is incomplete" not in report or "history" not in report


def test_the_worst_cases_are_drawn_by_the_models_that_had_not_seen_them(finished: Path) -> None:
    rows = pd.read_csv(finished / "evaluation/test.cases.csv")
    ranked = list(rows.groupby("case_id")["value"].mean().sort_values().index)
    index = json.loads((finished / "figures/index.json").read_text())
    drawn = [entry["case_id"] for entry in index]
    assert drawn == [*ranked[:5], ranked[-1]]
    seen = pd.read_csv(finished / "evaluation/test.predictions.csv").query("repeat == 0").set_index("case_id")["bright"]
    told = {name: float(pd.read_csv(finished / f"figures/seen-{name}.csv")["bright"].iloc[0]) for name in drawn}
    assert told == pytest.approx({name: seen[name] for name in drawn})


def test_one_site_is_left_out_at_a_time(task_class: type[Any], tmp_path: Path) -> None:
    overrides = ("split.folds=null", "split.by=site", "cross_validation.repeats=1", "track.enabled=false")
    outcome = run_workflow(resolved(tmp_path, *overrides))
    parts = [
        json.loads((outcome.run.folds / f"repeat-0-fold-0{n}" / "splits.json").read_text())["parts"] for n in (0, 1)
    ]
    assert parts[0]["test"] == parts[1]["train"] == [f"case{n:02d}" for n in (0, 2, 4, 6, 8)]


def test_a_fold_whose_every_prediction_failed_counts_badly(task_class: type[Any]) -> None:
    from pipelines.experiment.foldresults import FoldResults, _joined

    class Share(task_class):  # type: ignore[misc]
        pools_folds = False

        def pooled(self, cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
            return {("all", "predicted"): sum(case.case_id in observed for case in cases) / len(cases)}

    cases = {name: Case(name, name, {}) for name in "abcd"}
    parts = {(0, 0): (frozenset("ab"), {"a": {}, "b": {}}), (0, 1): (frozenset("cd"), {})}
    results = FoldResults(cases, pd.DataFrame(), pd.DataFrame(), pd.DataFrame({"case_id": ["a", "b"]}), parts)
    assert results.pooled(Share(None), list(cases.values())) == {("all", "predicted"): 0.5, ("mean", "predicted"): 0.5}
    assert _joined(["", "missed", "failed: no room", "missed"]) == "failed: no room; missed"


def test_a_fold_that_does_not_exist_is_refused(task_class: type[Any], tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="names fold 7; there are 3"):
        run_workflow(resolved(tmp_path, "cross_validation.only=[7]", "track.enabled=false"))
    shutil.rmtree(tmp_path / "runs")


def test_numbers_of_the_whole_set_stand_in_the_report(finished: Path) -> None:
    from pipelines.reporting.contents import read_run
    from pipelines.reporting.judged import Judged
    from pipelines.reporting.report import _results
    from pipelines.runs import RunFolder

    contents = read_run(RunFolder(finished))
    tables = _results(Judged(contents), "95 %")
    assert [table["caption"].partition(",")[0] for table in tables] == ["Mean over cases", "All cases together"]
    of_cases, of_the_set = ([cell for _, cells in table["rows"] for cell in cells] for table in tables)
    assert None not in of_cases
    assert {cell.metric for cell in of_cases} == {"accuracy"}
    assert [(cell.class_name, cell.metric) for cell in of_the_set] == [("all", "spread")]  # its mean is the same
    told = {(cell.class_name, cell.metric) for cell in [*of_cases, *of_the_set]}
    assert told == {(row.class_name, row.metric) for row in contents.summaries} - {("mean", "spread")}
