"""A second call does what is missing or changed, by content, and nothing else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stand_in_predictor import StandInSource

from pipelines.errors import EnvironmentProblem


def test_a_second_call_has_nothing_to_do(bench: Any) -> None:
    bench.put(a="one", b="two")
    bench.run()
    before = {path: path.stat().st_mtime_ns for path in bench.out.glob("[!.]*/*")}
    summary = bench.run()
    assert summary.counts["skipped"] == 2
    assert summary.exit_code == 0
    assert bench.started() == []
    assert {path: path.stat().st_mtime_ns for path in bench.out.glob("[!.]*/*")} == before
    assert bench.outcomes() == {"a": "skipped", "b": "skipped"}


def _touch(bench: Any) -> None:
    os.utime(bench.inputs / "a.item")


def _rewrite_the_same(bench: Any) -> None:
    bench.put(a="one")


def _move_the_inputs(bench: Any) -> None:
    shutil.move(bench.inputs, bench.root / "elsewhere")
    bench.inputs.symlink_to(bench.root / "elsewhere")


def _lose_the_ledger(bench: Any) -> None:
    (bench.out / "ledger.sqlite").unlink()


def _damage_the_ledger(bench: Any) -> None:
    (bench.out / "ledger.sqlite").write_bytes(b"not a database at all" * 100)


@pytest.mark.parametrize("change", [_touch, _rewrite_the_same, _move_the_inputs, _lose_the_ledger, _damage_the_ledger])
def test_what_changes_no_content_has_nothing_done_again(bench: Any, change: Callable[[Any], None]) -> None:
    bench.put(a="one", b="two")
    bench.run()
    change(bench)
    assert bench.run().counts["skipped"] == 2


def _other_content_of_the_same_size_and_time(bench: Any) -> None:
    state = (bench.inputs / "a.item").stat()
    bench.put(a="ONe")
    os.utime(bench.inputs / "a.item", ns=(state.st_atime_ns, state.st_mtime_ns))


def _alter_the_result(bench: Any) -> None:
    (bench.out / "a" / "a.upper").write_text("ONF")


def _lose_a_file_of_the_result(bench: Any) -> None:
    (bench.out / "a" / "a.upper").unlink()


def _lose_the_result(bench: Any) -> None:
    shutil.rmtree(bench.out / "a")


def _alter_the_record(bench: Any) -> None:
    path = bench.out / "a" / "provenance.json"
    path.write_text(path.read_text().replace('"letters": 3', '"letters": 4'))


@pytest.mark.parametrize(
    "change",
    [
        _other_content_of_the_same_size_and_time,
        _alter_the_result,
        _lose_a_file_of_the_result,
        _lose_the_result,
        _alter_the_record,
    ],
)
def test_an_item_that_changed_or_lost_its_result_is_done_again_and_no_other(
    bench: Any, change: Callable[[Any], None]
) -> None:
    bench.put(a="one", b="two")
    bench.run()
    change(bench)
    summary = bench.run()
    assert (summary.counts["ok"], summary.counts["skipped"]) == (1, 1)
    assert bench.started() == ["a"]
    assert bench.results() == {"a": "ONE", "b": "TWO"}
    assert bench.run().counts["skipped"] == 2


@pytest.mark.parametrize(
    "source",
    [StandInSource(model_digest="model-2"), StandInSource(settings={"infer.overlap": 0.25})],
    ids=["model", "setting"],
)
def test_another_model_or_setting_does_everything_again(bench: Any, source: Any) -> None:
    bench.put(a="one", b="two")
    bench.run()
    assert bench.run(source=source).counts["ok"] == 2
    assert bench.run(source=source).counts["skipped"] == 2


def test_items_without_a_result_are_tried_again(bench: Any) -> None:
    bench.put(a="one", b="read:bad")
    assert bench.run().counts["failed"] == 1
    assert bench.run().counts == {"ok": 0, "skipped": 1, "failed": 1, "timeout": 0, "out_of_memory": 0}
    bench.put(b="two")
    assert bench.run().counts == {"ok": 1, "skipped": 1, "failed": 0, "timeout": 0, "out_of_memory": 0}


def test_a_result_does_not_outlive_the_content_it_was_made_from(bench: Any) -> None:
    bench.put(a="one")
    bench.run()
    bench.put(a="read:bad")
    bench.run()
    assert not (bench.out / "a").exists()
    assert bench.records()["a"].outputs == ()


def test_new_items_are_added_to_old_results(bench: Any) -> None:
    bench.put(a="one")
    bench.run()
    bench.put(b="two")
    assert bench.run().counts["ok"] == 1
    assert bench.results() == {"a": "ONE", "b": "TWO"}


def test_results_inside_the_input_folder_are_not_taken_for_inputs(bench: Any) -> None:
    bench.put(a="one")
    bench.inputs.rename(bench.root / "moved")
    (bench.root / "out").mkdir()
    (bench.root / "moved").rename(bench.root / "out" / "scans")
    # The output folder is above the inputs, and its results end in .upper, which the stand-in reads too.
    assert bench.run(bench.out / "scans").total == 1
    assert bench.run(bench.out / "scans", bench.out / "a").total == 1
    assert sorted(bench.results()) == ["a"]


def test_a_folder_of_the_users_is_never_replaced(bench: Any) -> None:
    bench.put(a="one")
    (bench.out / "a").mkdir(parents=True)
    (bench.out / "a" / "notes.txt").write_text("mine")
    bench.run()
    assert (bench.out / "a" / "notes.txt").read_text() == "mine"
    (name,) = bench.results()
    assert name.startswith("a-")
    assert bench.run().counts["skipped"] == 1


def test_a_second_call_at_the_same_time_is_refused(bench: Any) -> None:
    from pipelines.inference.outfolder import OutFolder

    bench.put(a="one")
    with OutFolder(bench.out).locked(), pytest.raises(EnvironmentProblem, match=f"process {os.getpid()}"):
        bench.run()
    assert bench.run().counts["ok"] == 1


def test_a_lock_file_that_a_dead_process_left_does_not_matter(bench: Any) -> None:
    bench.put(a="one")
    (bench.out / ".pulvinar" / "staging" / "1-1").mkdir(parents=True)
    (bench.out / ".pulvinar" / "lock").write_text("1\n")
    (bench.out / ".pulvinar" / "staging" / "1-1" / "half").write_text("ha")
    assert bench.run().counts["ok"] == 1
    assert not (bench.out / ".pulvinar" / "staging").exists()


@pytest.mark.parametrize("kind", ["a file", "below a file", "no permission"])
def test_an_output_folder_that_cannot_be_written_is_refused_before_any_work(bench: Any, kind: str) -> None:
    bench.put(a="one")
    if kind == "a file":
        bench.out.write_text("in the way")
    elif kind == "below a file":
        (bench.root / "file").write_text("in the way")
        bench.out.symlink_to(bench.root / "file" / "out")
    else:
        if os.geteuid() == 0:
            pytest.skip("the superuser may write anywhere")
        bench.out.mkdir()
        bench.out.chmod(0o555)
    with pytest.raises(EnvironmentProblem, match="cannot be written to"):
        bench.run()
    assert bench.events == []


def test_two_scans_with_one_name_have_two_results_in_every_call(bench: Any) -> None:
    for folder, text in (("x", "one"), ("y", "two"), ("z", "one")):
        (bench.inputs / folder).mkdir(parents=True)
        (bench.inputs / folder / "ct.item").write_text(text)
    bench.run()
    first = bench.results()
    assert sorted(first.values()) == ["ONE", "ONE", "TWO"]
    assert first["ct"] == "ONE"
    # In another order, and a part only: names stay with their scans.
    assert bench.run(bench.inputs / "z", bench.inputs / "y").counts["skipped"] == 2
    assert bench.run().counts["skipped"] == 3
    assert bench.results() == first


def test_a_scan_from_elsewhere_never_takes_over_a_result_of_the_same_name(bench: Any) -> None:
    bench.put(ct="one")
    bench.run()
    other = bench.root / "other"
    other.mkdir()
    (other / "ct.item").write_text("two")
    assert bench.run(other).counts["ok"] == 1
    assert bench.results()["ct"] == "ONE"
    assert sorted(bench.results().values()) == ["ONE", "TWO"]


def test_names_of_any_script_are_kept(bench: Any) -> None:
    bench.put(**{"Ünïcödé 患者 ñ": "one", "-rf": "two", "..": "three", "LEDGER.csv": "four", "x" * 200: "five"})
    summary = bench.run()
    assert summary.counts["ok"] == 5
    assert "Ünïcödé 患者 ñ" in bench.results()
    assert bench.run().counts["skipped"] == 5


def _results(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if not path.name.startswith((".", "ledger."))}


def test_every_result_folder_is_in_the_ledger_and_the_other_way_round(bench: Any) -> None:
    bench.put(a="one", b="read:bad", c="three")
    bench.run()
    with_result = {name for name, record in bench.records().items() if record.outputs}
    assert with_result == _results(bench.out) == {"a", "c"}
