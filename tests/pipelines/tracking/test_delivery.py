"""Each event reaches the store once, in order, whatever dies in between; nothing in it names a place or a person."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from pipelines.errors import EnvironmentProblem
from pipelines.runs import RunFolder
from pipelines.tracking import Tracker, TrackingSettings, sync
from pipelines.tracking.delivery import Delivery
from pipelines.tracking.stores import open_client
from pipelines.tracking.target import Target

Start = Callable[..., tuple[RunFolder, Tracker]]


def mlflow_run(run: RunFolder, run_id: str) -> Any:
    return open_client(Target.read(run).store_uri(run)).get_run(run_id)


def history(run: RunFolder, run_id: str, key: str) -> list[tuple[int, float]]:
    client = open_client(Target.read(run).store_uri(run))
    return [(metric.step, metric.value) for metric in client.get_metric_history(run_id, key)]


def test_a_run_arrives_whole(start: Start) -> None:
    run, tracker = start()
    tracker.log_parameters({"train": {"lr": 1e-3}, "name": "knee"})
    for step in range(2500):
        tracker.log_metrics({"train/loss": 1 / (step + 1)}, step)
    tracker.set_tags({"seed": 7})
    tracker.log_data("knees", "c0ffee", {"train": 20, "test": 5})
    assert tracker.finish("finished") is False
    report = sync(run)
    assert report.complete
    arrived = mlflow_run(run, report.run_id)
    assert arrived.info.status == "FINISHED"
    assert arrived.data.params == {"train.lr": "0.001", "name": "knee"}
    assert history(run, report.run_id, "train/loss") == [(step, 1 / (step + 1)) for step in range(2500)]
    assert arrived.data.tags["seed"] == "7"
    datasets = {given.dataset.name: json.loads(given.dataset.profile) for given in arrived.inputs.dataset_inputs}
    assert datasets["knees:train"] == {"part": "train", "cases": 20}
    again = sync(run)
    assert (again.delivered, again.waiting, again.run_id) == (0, 0, report.run_id)


def test_a_delivery_that_died_before_its_note_repeats_without_harm(start: Start) -> None:
    run, tracker = start()
    tracker.log_parameters({"a": 1})
    tracker.log_metrics({"loss": 0.5, "nan": float("nan")}, 0)
    tracker.log_data("knees", "c0ffee", {"train": 2})
    run.config.write_text("a: 1\n")
    tracker.log_files(run.config)
    tracker.finish("failed")
    first = sync(run)
    (run.tracking / "delivered.json").unlink()
    second = sync(run)
    assert second.run_id == first.run_id
    assert second.delivered == first.delivered
    assert history(run, first.run_id, "loss") == [(0, 0.5)]
    assert len(history(run, first.run_id, "nan")) == 1
    arrived = mlflow_run(run, first.run_id)
    assert len(arrived.inputs.dataset_inputs) == 1
    assert arrived.info.status == "FAILED"


def test_a_store_that_answers_at_the_second_attempt_misses_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, tracker = start()
    tracker.log_parameters({"a": 1})
    tracker.finish("finished")
    delivery = Delivery(run)
    with monkeypatch.context() as away:
        away.setattr(delivery, "_find_experiment", Mock(side_effect=ConnectionError("refused")))
        with pytest.raises(ConnectionError):
            delivery.deliver()
    delivery.deliver()
    report = sync(run)
    assert (report.refused, report.waiting) == (0, 0)
    arrived = mlflow_run(run, report.run_id)
    assert arrived.data.params == {"a": "1"}
    assert arrived.info.status == "FINISHED"


def test_a_resumed_run_continues_and_may_change_a_parameter(start: Start) -> None:
    run, tracker = start()
    tracker.log_parameters({"epochs": 10, "lr": 0.1})
    tracker.log_metrics({"loss": 0.5}, 0)
    tracker.log_metrics({"loss": 0.4}, 1)
    tracker.finish("interrupted")
    first = sync(run)
    assert mlflow_run(run, first.run_id).info.status == "KILLED"
    _, tracker = start(resume=True)
    tracker.log_parameters({"epochs": 20, "lr": 0.1, "new": 1})
    tracker.log_metrics({"loss": 0.4}, 1)
    tracker.log_metrics({"loss": 0.3}, 2)
    tracker.finish("finished")
    second = sync(run)
    assert (second.run_id, second.refused, second.waiting) == (first.run_id, 0, 0)
    arrived = mlflow_run(run, second.run_id)
    assert arrived.info.status == "FINISHED"
    assert arrived.data.params == {"epochs": "10", "lr": "0.1", "new": "1"}
    assert arrived.data.tags["resumed.epochs"] == "20"
    assert history(run, second.run_id, "loss") == [(0, 0.5), (1, 0.4), (2, 0.3)]


def test_a_run_that_was_killed_ends_as_killed(start: Start) -> None:
    run, tracker = start()
    tracker.log_metrics({"loss": 0.5}, 0)
    report = sync(run)
    assert mlflow_run(run, report.run_id).info.status == "KILLED"


def test_starting_anew_in_one_folder_is_a_new_run(start: Start) -> None:
    run, tracker = start()
    tracker.finish("finished")
    first = sync(run).run_id
    _, tracker = start()
    tracker.finish("finished")
    assert sync(run).run_id != first


def test_a_run_deleted_in_the_store_is_delivered_again(start: Start) -> None:
    run, tracker = start()
    tracker.log_metrics({"loss": 0.5}, 0)
    tracker.finish("finished")
    first = sync(run).run_id
    open_client(Target.read(run).store_uri(run)).delete_run(first)
    second = sync(run).run_id
    assert second != first
    assert history(run, second, "loss") == [(0, 0.5)]


def test_what_the_store_will_never_take_does_not_hold_up_the_rest(start: Start) -> None:
    run, tracker = start()
    tracker.log_files(run.root / "gone.txt")
    tracker.record({"event": "tags", "values": {"/../": "bad key"}})
    tracker.record({"event": "of a later version"})
    tracker.log_metrics({"loss": 0.5}, 0)
    tracker.finish("finished")
    report = sync(run)
    assert report.refused == 2
    assert report.complete
    refused = (run.tracking / "refused.jsonl").read_text()
    assert "no longer there" in refused
    assert history(run, report.run_id, "loss") == [(0, 0.5)]


def test_folds_are_children_of_their_run(start: Start) -> None:
    parent, parent_tracker = start("folds")
    child, child_tracker = start("fold-0", parent=parent)
    child_tracker.finish("finished")
    assert "deliver it first" in sync(child).problem
    parent_tracker.finish("finished")
    parent_id = sync(parent).run_id
    report = sync(child)
    assert report.complete
    assert mlflow_run(child, report.run_id).data.tags["mlflow.parentRunId"] == parent_id


def test_everything_can_be_sent_to_another_store(start: Start, empty_store: Path, tmp_path: Path) -> None:
    run, tracker = start()
    tracker.log_metrics({"loss": 0.5}, 0)
    tracker.finish("finished")
    sync(run)
    other = shutil.copy(empty_store, tmp_path / "other.db")
    report = sync(run, uri=f"sqlite:///{other}")
    assert report.complete
    assert report.delivered > 0
    copied = open_client(f"sqlite:///{other}").get_run(report.run_id)
    assert copied.data.metrics == {"loss": 0.5}


def test_an_output_folder_can_be_moved(start: Start, output: Path, tmp_path: Path) -> None:
    run, tracker = start()
    tracker.log_metrics({"loss": 0.5}, 0)
    tracker.finish("finished")
    moved = output.rename(tmp_path / "moved")
    run = RunFolder(moved / "run-1")
    report = sync(run)
    assert history(run, report.run_id, "loss") == [(0, 0.5)]


def test_a_run_that_was_not_tracked_says_so(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match="was not tracked"):
        sync(RunFolder(tmp_path))


def test_a_disabled_tracker_does_nothing(start: Start) -> None:
    run, tracker = start(settings=TrackingSettings(enabled=False))
    tracker.log_metrics({"loss": 1.0}, 0)
    tracker.log_run_folder()
    assert tracker.finish("finished")
    assert not run.tracking.exists()


def test_tracking_never_raises_into_a_run(
    start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, tracker = start()
    monkeypatch.setattr("os.write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    for step in range(3):
        tracker.log_metrics({"loss": 1.0}, step)
    monkeypatch.undo()
    assert [record for record in caplog.messages if "No space left" in record] == caplog.messages
    assert len(caplog.messages) == 1


def test_a_tracker_that_cannot_be_opened_is_disabled(
    start: Start, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (output / "run-1").mkdir()
    (output / "run-1" / "tracking").write_text("a file where a folder should be")
    _, tracker = start()
    tracker.log_metrics({"loss": 1.0}, 0)
    assert not tracker.enabled
    assert "not tracked" in caplog.text


def test_nothing_that_is_sent_names_a_place_a_person_or_the_machine(
    start: Start, output: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(variable, "annaschmidt")
    monkeypatch.setattr("socket.gethostname", lambda: "radiology7")
    run, tracker = start()
    secret = tmp_path / "ward" / "Mustermann"
    run.config.write_text(f"data: {secret}/knee\nhost: radiology7\n")
    run.write_json(run.provenance, {"data": f"{secret}/workflow.yaml:3:1"})
    run.evaluation.mkdir()
    (run.evaluation / "test.cases.csv").write_text(
        f"case_id,group,class,metric,value,note\nknee-1,Mustermann^Max,all,dice,0.9,failed: {secret}/x.nii\n"
    )
    tracker.log_parameters({"data": str(secret / "knee"), "nested": {"list": [str(secret / "a")]}})
    tracker.set_tags({"note": f"from {secret}/a.nii on radiology7"})
    tracker.log_data(str(secret / "knee"), "c0ffee", {"train": 1})
    tracker.log_run_folder()
    tracker.finish("finished")
    report = sync(run)
    assert report.complete
    assert report.refused == 0
    sent = b"\n".join(path.read_bytes() for path in (output / "tracking" / "artifacts").rglob("*") if path.is_file())
    database = (output / "tracking" / "mlflow.db").read_bytes()
    for word in ("Mustermann", "annaschmidt", "radiology7"):
        assert word.encode() not in sent
        assert word.encode() not in database
    assert str(tmp_path).encode() not in sent
    assert b"group-0001" in sent
    assert_only_artifact_addresses_are_absolute(output / "tracking" / "mlflow.db", tmp_path)


def assert_only_artifact_addresses_are_absolute(database: Path, folder: Path) -> None:
    """MLflow itself keeps where the store's own files are, in these columns, and cannot read them otherwise."""
    import sqlite3

    addresses = {("experiments", "artifact_location"), ("runs", "artifact_uri"), ("logged_models", "artifact_location")}
    with sqlite3.connect(database) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            cursor = connection.execute(f"SELECT * FROM {table}")
            columns = [column[0] for column in cursor.description]
            for row in cursor:
                for column, value in zip(columns, row, strict=True):
                    if (table, column) not in addresses:
                        assert str(folder) not in str(value), (table, column)
    connection.close()
