"""How items end: with a result, or with a reason, and never with another item's."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from stand_in_predictor import StandInSource

from pipelines.errors import ConfigurationError, DataError, EnvironmentProblem, ExitCode, PulvinarError


def test_every_item_gets_its_result_and_a_record_of_what_it_was_made_from(bench: Any) -> None:
    bench.put(a="hello", b="wörld", empty="")
    summary = bench.run()
    assert summary.exit_code == ExitCode.OK
    assert summary.counts["ok"] == summary.total == 3
    assert bench.results() == {"a": "HELLO", "b": "WÖRLD", "empty": ""}
    said = json.loads((bench.out / "b" / "provenance.json").read_text())
    assert said["summary"] == {"letters": 5}
    assert said["model_digest"] == "model-1"
    assert set(said["seconds"]) == {"read", "compute", "write"}
    assert str(bench.root) not in (bench.out / "b" / "provenance.json").read_text()
    assert sorted(path.name for path in bench.out.iterdir()) == [
        ".pulvinar",
        "a",
        "b",
        "empty",
        "ledger.csv",
        "ledger.sqlite",
    ]


ENDS = {
    "a named reason while reading": ("read:bad no header", "failed", "no header. Export it again", 1),
    "a named reason while computing": ("compute:bad", "failed", "bad. Export it again", 1),
    "a named reason while writing": ("write:bad", "failed", "bad. Export it again", 1),
    "an error without a name": ("compute:bug", "failed", "ValueError: unexpected shape", 1),
    "a library that calls exit": ("read:exit", "failed", "SystemExit: 3", 1),
    "a disk that stutters": ("read:io", "failed", "OSError: [Errno 5] Input/output error", 2),
    "no memory": ("compute:memory", "out_of_memory", "MemoryError: no memory", 2),
    "a full GPU": ("compute:torch_memory", "out_of_memory", "OutOfMemoryError: CUDA out of memory", 2),
    "a spoilt GPU": ("compute:spoil", "failed", "RuntimeError: CUDA error: device-side assert triggered", 1),
    "exit while reading": ("read:crash", "failed", "the worker ended by itself (exit code 7)", 2),
    "a segmentation fault": ("compute:segv", "failed", "worker killed (signal 11, SIGSEGV)", 2),
    "killed while writing": ("write:sigkill", "failed", "worker killed (signal 9, SIGKILL)", 2),
}


def test_bad_items_end_with_their_own_reasons_and_the_rest_goes_on(bench: Any) -> None:
    good = {f"good{number}": f"text {number}" for number in range(len(ENDS))}
    bench.put(**good)
    for number, (order, *_) in enumerate(ENDS.values()):
        bench.put(**{f"good{number}-bad": order})
    summary = bench.run(retries=1)
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert bench.results() == {name: text.upper() for name, text in good.items()}
    records = bench.records()
    for number, (case, (_, outcome, reason, attempts)) in enumerate(ENDS.items()):
        record = records[f"good{number}-bad"]
        assert (record.outcome, record.reason, record.attempts) == (outcome, reason, attempts), case
        assert not (bench.out / f"good{number}-bad").exists()


def test_an_item_that_takes_too_long_is_ended_and_its_neighbours_are_not_blamed(bench: Any) -> None:
    bench.put(a="compute:sleep 0.3", b="compute:sleep 60", c="three", d="compute:sleep 0.3")
    summary = bench.run(timeout=1.0, retries=0)
    assert [(one.item_id, one.outcome) for one in summary.failures] == [("b", "timeout")]
    assert "longer than 1 s" in summary.failures[0].reason
    assert all(record.attempts == 1 for record in bench.records().values())


def test_waiting_for_a_slow_neighbour_does_not_count_against_the_time_limit(bench: Any) -> None:
    bench.put(**{f"item{number}": "compute:sleep 0.5" for number in range(4)})
    assert bench.run(timeout=1.2, prefetch=4).counts["ok"] == 4


def test_an_item_that_fails_once_is_tried_again(bench: Any, tmp_path: Path) -> None:
    bench.put(
        crash=f"compute:once {tmp_path / 'crashed'} crash",
        hang=f"read:once {tmp_path / 'hung'} sleep 60",
        memory=f"compute:once {tmp_path / 'full'} memory",
    )
    summary = bench.run(timeout=1.0, retries=1, prefetch=0)
    assert summary.counts["ok"] == 3
    assert {name: record.attempts for name, record in bench.records().items()} == {"crash": 2, "hang": 2, "memory": 2}


def test_without_retries_every_item_has_one_attempt_even_beside_one_that_crashes(bench: Any) -> None:
    bench.put(a="read:sleep 0.2", b="compute:crash", c="read:sleep 0.2", d="four")
    summary = bench.run(retries=0, prefetch=3)
    assert [one.item_id for one in summary.failures] == ["b"]
    assert all(record.attempts == 1 for record in bench.records().values())


def test_a_batch_stops_after_so_many_failures_and_says_how_many_are_left(bench: Any) -> None:
    bench.put(**{f"item{number}": "read:bad" for number in range(8)})
    summary = bench.run(max_failures=2)
    failed = len(summary.failures)  # the worker may have been at an item more when the second failure came in
    assert 2 <= failed <= 4
    assert summary.not_attempted == 8 - failed
    assert summary.stopped == f"stopped after {failed} failed items; {8 - failed} not attempted"
    assert summary.exit_code == ExitCode.SOME_FAILED
    assert sorted(bench.outcomes().values()) == ["failed"] * 2 + ["pending"] * 6
    assert bench.events[-1].line() == summary.stopped


def test_several_workers_share_the_items(bench: Any, tmp_path: Path) -> None:
    bench.put(**{f"item{number}": "compute:sleep 1" for number in range(4)})
    summary = bench.run(workers=2, prefetch=0)
    assert summary.counts["ok"] == 4
    assert {record.device for record in bench.records().values()} == {"stand-in:0", "stand-in:1"}


def test_one_worker_for_each_device_is_the_default(bench: Any) -> None:
    bench.put(**{f"item{number}": "compute:sleep 0.7" for number in range(4)})
    bench.run(source=StandInSource(devices=2), prefetch=0)
    assert {record.device for record in bench.records().values()} == {"stand-in:0", "stand-in:1"}


def test_reading_computing_and_writing_overlap(bench: Any) -> None:
    bench.put(**{f"item{number}": "read:sleep 0.3\ncompute:sleep 0.3\nwrite:sleep 0.3" for number in range(6)})
    began: list[float] = []
    bench.run(report=lambda event: began.append(time.monotonic()) if event.kind == "started" else None)
    # One after the other would take 5.4 s.
    assert time.monotonic() - began[0] < 4.5


def test_no_more_items_are_inside_than_the_memory_is_meant_for(bench: Any, tmp_path: Path) -> None:
    log = tmp_path / "log"
    bench.put(**{f"item{number}": "compute:sleep 0.1" for number in range(8)})
    ahead = []

    def look(event: Any) -> None:
        if event.kind == "outcome":
            ahead.append(len(log.read_text().splitlines()) - event.done)

    bench.run(source=StandInSource(log=log), prefetch=1, report=look)
    assert max(ahead) <= 3


def test_what_a_library_prints_stays_out_of_the_output(bench: Any, capfd: pytest.CaptureFixture[str]) -> None:
    bench.put(a="compute:print chatter")
    bench.run()
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "chatter" in captured.err


@pytest.mark.parametrize(
    ("order", "message"),
    [
        pytest.param("write:full", "No space left on device", id="full disk"),
        pytest.param("compute:environment", "the GPU has gone", id="a device that is gone"),
    ],
)
def test_what_no_item_is_to_blame_for_stops_the_batch_and_keeps_what_is_done(
    bench: Any, order: str, message: str
) -> None:
    bench.put(a="one", b="compute:sleep 0.3\n" + order, c="three")
    with pytest.raises(EnvironmentProblem, match=message):
        bench.run(prefetch=0)
    assert bench.outcomes() == {"a": "ok", "b": "pending", "c": "pending"}
    bench.put(b="two")
    assert bench.run().counts == {"ok": 2, "skipped": 1, "failed": 0, "timeout": 0, "out_of_memory": 0}


def test_a_disk_that_is_full_when_a_result_is_put_in_its_place_stops_the_batch(
    bench: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from pipelines.inference.outfolder import OutFolder

    def full(self: Any, staged: Path, item_id: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    bench.put(a="one")
    with monkeypatch.context() as patched:
        patched.setattr(OutFolder, "publish", full)
        with pytest.raises(EnvironmentProblem, match="No space left"):
            bench.run()
    assert bench.outcomes() == {"a": "pending"}
    assert bench.run().counts["ok"] == 1


def test_a_model_that_cannot_be_loaded_stops_the_batch(bench: Any) -> None:
    bench.put(a="one")
    with pytest.raises(PulvinarError, match="unexpected shape"):
        bench.run(source=StandInSource(on_open="open:bug"))
    with pytest.raises(EnvironmentProblem, match="3 workers in a row"):
        bench.run(source=StandInSource(on_open="open:sigkill"))


def test_items_that_were_seen_to_be_broken_are_failures_with_that_reason(bench: Any) -> None:
    bench.put(a="one")
    (bench.inputs / "half.broken").write_text("")
    summary = bench.run()
    assert [(one.item_id, one.reason) for one in summary.failures] == [("half", "truncated")]


@pytest.mark.parametrize("kind", ["missing", "dangling link", "pipe", "folder link loop"])
def test_inputs_that_are_no_readable_file_fail_with_a_reason_and_nothing_hangs(bench: Any, kind: str) -> None:
    bench.put(a="one")
    path = bench.inputs / "odd.item"
    if kind == "dangling link":
        path.symlink_to(bench.inputs / "nowhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder link loop":
        path.symlink_to(path)
    summary = bench.run(bench.inputs / "a.item", path)
    assert summary.counts["ok"] == 1
    (failure,) = summary.failures
    assert failure.item_id == "odd"
    assert failure.reason
    assert str(bench.root) not in failure.reason


def test_a_link_to_a_scan_is_read_through(bench: Any) -> None:
    bench.put(a="one")
    (bench.inputs / "linked.item").symlink_to(bench.inputs / "a.item")
    bench.run()
    assert bench.results() == {"a": "ONE", "linked": "ONE"}


def test_reasons_do_not_tell_where_the_files_lie(bench: Any) -> None:
    bench.put(a="x")
    (bench.inputs / "a.item").write_bytes(b"\xff\xfe\xff")
    (bench.inputs / "folder.item").mkdir()
    summary = bench.run()
    assert {one.item_id for one in summary.failures} == {"a", "folder"}
    assert str(bench.root) not in (bench.out / "ledger.csv").read_text()


@pytest.mark.parametrize("inputs", [pytest.param([], id="none named"), pytest.param(["out"], id="the output folder")])
def test_arguments_that_contradict_one_another_are_refused(bench: Any, inputs: list[str]) -> None:
    from pipelines.inference.batch import run_batch
    from pipelines.inference.settings import BatchSettings

    bench.out.mkdir()
    with pytest.raises(ConfigurationError):
        run_batch(StandInSource(), [bench.root / name for name in inputs], bench.out, BatchSettings())


def test_nothing_found_is_an_error(bench: Any) -> None:
    bench.put()
    with pytest.raises(DataError, match="nothing to predict was found in"):
        bench.run()
