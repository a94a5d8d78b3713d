"""A workflow from its YAML to a report and predictions, interrupted and resumed on the way."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from pipelines.errors import ExitCode

WORKFLOW = """
task: medical/segmentation
name: trial
data: {format: phantom, cases: 12, size: [16, 20, 16]}
split: {test: 0.25, validation: 0.2}
augment: {enabled: false}
patches: {size: [16, 16, 16]}
model: {channels: [4, 8], deep_supervision: 1, attention: {name: full, heads: 2}}
infer: {mirror: false, precision: fp32}
train: {epochs: 3, batch_size: 2, precision: fp32, workers: 0, validate_every: 3}
evaluate: {worst: 1}
track: {system_metrics: false}
"""
COMMAND = (sys.executable, "-m", "workflows.main")


def pulvinar(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment(), capture_output=True, text=True, timeout=240, check=False
    )


def environment() -> dict[str, str]:
    root = str(Path(__file__).parents[3])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def rows_of(table: Path) -> list[dict[str, str]]:
    with table.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders with the same workflow: one runs through, the other is stopped by SIGTERM and resumed."""
    through, stopped = tmp_path_factory.mktemp("through"), tmp_path_factory.mktemp("stopped")
    for folder in (through, stopped):
        (folder / "trial.yaml").write_text(WORKFLOW)
    done = pulvinar(through, "run", "trial.yaml", "--json")
    assert done.returncode == ExitCode.OK, done.stderr
    (through / "outcome.json").write_text(done.stdout)

    process = subprocess.Popen(
        [*COMMAND, "run", "trial.yaml"], cwd=stopped, env=environment(), stderr=subprocess.PIPE, text=True
    )
    history, deadline = stopped / "runs/trial/001/history.csv", time.monotonic() + 120
    while not history.is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == ExitCode.INTERRUPTED, errors
    assert "--resume" in errors
    resumed = pulvinar(stopped, "run", "trial.yaml", "--resume")
    assert resumed.returncode == ExitCode.OK, resumed.stderr
    return through, stopped


def test_a_resumed_run_ends_with_the_same_weights_and_scores(folders: tuple[Path, Path]) -> None:
    through, stopped = (folder / "runs/trial/001" for folder in folders)
    assert (through / "model/model.safetensors").read_bytes() == (stopped / "model/model.safetensors").read_bytes()
    for table in ("evaluation/test.cases.csv", "evaluation/test.summary.csv", "splits.json", "cases.csv"):
        assert (through / table).read_text() == (stopped / table).read_text()
    epochs = [[row["epoch"] for row in rows_of(run / "history.csv")] for run in (through, stopped)]
    assert epochs == [["1", "2", "3"]] * 2
    assert json.loads((stopped / "status.json").read_text())["state"] == "finished"


def test_a_run_leaves_everything_that_it_promises(folders: tuple[Path, Path]) -> None:
    run = folders[0] / "runs/trial/001"
    outcome = json.loads((folders[0] / "outcome.json").read_text())
    status = json.loads((run / "status.json").read_text())
    parts = {part: len(ids) for part, ids in json.loads((run / "splits.json").read_text())["parts"].items()}
    assert status["state"] == "finished"
    assert status["synthetic"] is True
    assert parts == {"train": 7, "validation": 2, "test": 3}
    assert outcome["part"] == "test"
    assert {row["class"] for row in outcome["summary"]} == {"front", "back", "mean"}
    assert {row["cases"] for row in outcome["summary"]} == {3}
    judged = {row["case_id"] for row in rows_of(run / "evaluation/test.cases.csv")}
    assert judged == set(json.loads((run / "splits.json").read_text())["parts"]["test"])
    report = (run / "report.html").read_text()
    assert "synthetic" in report
    assert str(folders[0]) not in report
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 3
    assert json.loads((run / "provenance.json").read_text())["train.epochs"].startswith("trial.yaml:")


def test_the_run_is_in_the_tracking_store(folders: tuple[Path, Path]) -> None:
    import sqlite3

    for folder in folders:
        with closing(sqlite3.connect(folder / "runs/tracking/mlflow.db")) as store:
            ((status, count),) = store.execute("select status, count(*) from runs group by status").fetchall()
            metrics = {key for (key,) in store.execute("select distinct key from metrics")}
        assert (status, count) == ("FINISHED", 1)
        assert {"test/mean/dice", "validation/dice"} <= metrics


def test_the_model_predicts_and_the_second_call_has_nothing_to_do(folders: tuple[Path, Path]) -> None:
    folder = folders[0]
    scans = str(next((folder / "runs/phantom-volumes").rglob("image")))
    first = pulvinar(folder, "predict", "runs/trial/001", scans, "--out", "out", "--json")
    again = pulvinar(folder, "predict", "runs/trial/001", scans, "--out", "out", "--json")
    assert first.returncode == again.returncode == ExitCode.OK, first.stderr + again.stderr
    assert json.loads(first.stdout)["counts"]["ok"] == json.loads(again.stdout)["counts"]["skipped"] == 12


def test_evaluating_the_model_again_gives_the_run_its_numbers(folders: tuple[Path, Path]) -> None:
    folder = folders[0]
    done = pulvinar(folder, "evaluate", "runs/trial/001", "runs/trial/001", "--out", "again")
    assert done.returncode == ExitCode.OK, done.stderr
    again = (folder / "again/test.summary.csv").read_text()
    assert again == (folder / "runs/trial/001/evaluation/test.summary.csv").read_text()


def test_two_processes_share_a_run_and_one_of_them_writes(folders: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "trial.yaml").write_text(WORKFLOW)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    overrides = ["train.epochs=1", "train.validate_every=1", "track.enabled=false"]
    done = subprocess.run(
        [*launcher, "-m", "workflows.main", "run", "trial.yaml", "--json", *overrides],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == ExitCode.OK, done.stderr
    outcome = json.loads(done.stdout)  # one document: the second process says nothing
    assert (tmp_path / outcome["run"]).resolve() == (tmp_path / "runs/trial/001").resolve()
    assert [folder.name for folder in (tmp_path / "runs/trial").iterdir()] == ["001"]
    assert {row["cases"] for row in outcome["summary"]} == {3}
    assert done.stderr.count("judging 3 test cases") == 1
