"""The ledger: states change along its arrows only, and everything in it can be read back and exported."""

from __future__ import annotations

import csv
import json
import sqlite3
from pathlib import Path

import pytest

from pipelines.errors import DataError, EnvironmentProblem
from pipelines.inference.ledger import Digests, Ledger, Record
from pipelines.inference.messages import Attempt, Output

DONE = Record(
    "scän 1",
    "sub/scän 1.nii.gz",
    "key",
    "ok",
    attempts=2,
    digests=Digests("in", "model", "settings"),
    device="cpu",
    seconds=Attempt(0.5, 1.5, 0.25),
    outputs=(Output("labels.nii.gz", 12, "ab" * 32),),
    summary={"volumes_ml": {"liver, left": 1.5}},
    started="2026-01-01T00:00:00.000+00:00",
    finished="2026-01-01T00:00:02.250+00:00",
)


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin(model_digest="model", settings_digest="settings", version="0")
    ledger.expect([Record(DONE.item_id, DONE.source, DONE.source_key), Record("other")])
    return ledger


def test_what_is_recorded_is_read_back(ledger: Ledger) -> None:
    ledger.start(DONE.item_id, 1)
    ledger.record(DONE)
    assert ledger.records()[DONE.item_id] == DONE
    ledger.close()
    again = Ledger(ledger.path)
    assert again.records()[DONE.item_id] == DONE
    again.close()


def test_an_outcome_is_final_within_a_call(ledger: Ledger) -> None:
    ledger.start(DONE.item_id, 1)
    ledger.record(DONE)
    with pytest.raises(ValueError, match="neither pending nor running"):
        ledger.record(DONE)
    with pytest.raises(ValueError, match="cannot become running"):
        ledger.start(DONE.item_id, 2)
    with pytest.raises(ValueError, match="cannot become pending"):
        ledger.again(DONE.item_id, "failed", "")
    ledger.close()


@pytest.mark.parametrize("outcome", ["pending", "running", "fine"])
def test_only_outcomes_end_an_item(ledger: Ledger, outcome: str) -> None:
    with pytest.raises(ValueError, match="is no outcome"):
        ledger.record(Record("other", outcome=outcome))
    ledger.close()


def test_what_a_killed_call_left_running_is_pending_in_the_next(ledger: Ledger) -> None:
    ledger.start("other", 1)
    ledger.close()
    again = Ledger(ledger.path)
    again.begin(model_digest="model", settings_digest="settings", version="0")
    assert again.records()["other"].outcome == "pending"
    calls = again._connection.execute("SELECT ended FROM calls ORDER BY call").fetchall()
    assert [tuple(row) for row in calls] == [("killed",), ("killed",)]
    again.end("finished")
    assert again._connection.execute("SELECT ended FROM calls WHERE call = 2").fetchone()[0] == "finished"
    again.close()


def test_the_exports_hold_every_item_without_private_columns(ledger: Ledger, tmp_path: Path) -> None:
    ledger.start(DONE.item_id, 1)
    ledger.record(DONE)
    ledger.export_csv(tmp_path / "ledger.csv")
    ledger.export_json(tmp_path / "ledger.json")
    ledger.close()
    with (tmp_path / "ledger.csv").open(encoding="utf-8", newline="") as file:
        rows = {row["item_id"]: row for row in csv.DictReader(file)}
    assert rows.keys() == {DONE.item_id, "other"}
    row = rows[DONE.item_id]
    assert (row["outcome"], row["outputs"]) == ("ok", "scän 1/labels.nii.gz")
    assert json.loads(row["summary"]) == DONE.summary
    assert "source_key" not in row
    assert json.loads((tmp_path / "ledger.json").read_text())[1]["outputs"][0]["size"] == 12


def test_the_database_can_be_copied_alone_after_a_call(ledger: Ledger, tmp_path: Path) -> None:
    ledger.close()
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.sqlite"]


def test_a_ledger_of_a_later_version_is_refused(ledger: Ledger) -> None:
    ledger._connection.execute("PRAGMA user_version = 99")
    ledger.close()
    with pytest.raises(DataError, match="version 99"):
        Ledger.open(ledger.path)


def test_a_full_disk_is_an_environment_problem_and_the_ledger_stays_whole(ledger: Ledger) -> None:
    pages = ledger._connection.execute("PRAGMA page_count").fetchone()[0]
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(EnvironmentProblem, match="database or disk is full"):
        ledger.expect(Record("x" * 500 + str(number)) for number in range(1000))
    ledger.close()
    again = Ledger(ledger.path)
    assert again.records().keys() == {DONE.item_id, "other"}
    again.close()


def test_a_damaged_ledger_is_kept_aside(ledger: Ledger) -> None:
    ledger.close()
    ledger.path.write_bytes(b"damaged" * 1000)
    again, note = Ledger.open(ledger.path)
    assert again.records() == {}
    assert "was damaged" in note
    (aside,) = ledger.path.parent.glob("ledger.sqlite.damaged-*")
    assert aside.read_bytes() == b"damaged" * 1000
    again.close()


def test_others_can_read_while_it_is_written(ledger: Ledger) -> None:
    ledger.start("other", 1)
    reader = sqlite3.connect(f"file:{ledger.path}?mode=ro", uri=True)
    assert reader.execute("SELECT outcome FROM items WHERE item_id = 'other'").fetchone() == ("running",)
    reader.close()
    ledger.close()
