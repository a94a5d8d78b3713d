"""Names of results and digests of contents."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.inference.events import Event
from pipelines.inference.fingerprint import FileDigests, item_digest
from pipelines.inference.items import fold_name, name_items, safe_name
from pipelines.inference.progress import Pace, progress_reporter
from pipelines.task import Item

ANY_NAME = st.text(max_size=300)


@given(ANY_NAME)
def test_any_name_becomes_one_that_is_safe_as_a_folder(name: str) -> None:
    safe = safe_name(name)
    assert safe not in ("", ".", "..")
    assert not safe.startswith((".", "-", "ledger."))
    assert not set(safe) & set('/\\\0:*?"<>|\n\r\t')
    assert len(safe.encode()) <= 120 + 9
    assert safe_name(safe) == safe


@given(st.lists(st.sampled_from(["ct", "CT", "ct.", "x/y", "..", "", "é", "é"]), max_size=12))
def test_items_have_names_of_their_own_whatever_they_were_called(names: list[str]) -> None:
    items = [Item(name, (Path(f"/nowhere/{number}/{name}"),)) for number, name in enumerate(names)]
    found = name_items(items, [Path("/nowhere")], lambda _: None, lambda _: [], lambda _: False, lambda _: "")
    assert len({fold_name(one.item.item_id) for one in found}) == len(items)
    assert [one.item.paths for one in found] == [item.paths for item in items]
    assert not any(os.path.isabs(one.source) for one in found)
    again = name_items(items, [Path("/nowhere")], lambda _: None, lambda _: [], lambda _: False, lambda _: "")
    assert again == found


def test_files_that_bear_the_name_of_the_first_do_not_make_a_folder_of_it() -> None:
    items = [
        Item("v", (Path("/in/sub/v.mp4"), Path("/in/sub/v.boxes.json"))),
        Item("series", (Path("/in/series/1.dcm"), Path("/in/series/2.dcm"))),
    ]
    found = name_items(items, [Path("/in")], lambda _: None, lambda _: [], lambda _: False, lambda _: "")
    assert [one.source for one in found] == ["sub/v.mp4", "series"]


def test_the_digest_is_that_of_the_content_not_of_the_names(tmp_path: Path) -> None:
    for name, text in (("a", "one"), ("b", "one"), ("c", "two")):
        (tmp_path / name).write_text(text)
    digests = FileDigests()

    def digest(*names: str, **detail: str) -> str:
        return item_digest(Item("x", tuple(tmp_path / name for name in names), "kind", detail), digests)

    assert digest("a") == digest("b")
    assert len({digest("a"), digest("c"), digest("a", "c"), digest("c", "a"), digest("a", series="1")}) == 5


def test_a_file_is_read_again_only_when_it_may_have_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    old = time.time() - 3600
    os.utime(path, (old, old))
    monkeypatch.setattr("pipelines.inference.fingerprint._SETTLED_NANOSECONDS", -1)
    digests = FileDigests()
    first = digests.digest(path)
    remembered = FileDigests(digests.take_fresh())
    with monkeypatch.context() as patched:
        patched.setattr("hashlib.file_digest", None)
        assert remembered.digest(path) == first
    path.write_text("two")
    os.utime(path, (old, old))
    assert remembered.digest(path) != first


def test_a_file_that_has_just_been_written_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("one")
    digests = FileDigests()
    digests.digest(tmp_path / "file")
    assert digests.take_fresh() == {}


def test_the_pace_counts_items_that_were_worked_on() -> None:
    clock = iter([0.0, 10.0, 10.0])
    pace = Pace(lambda: next(clock))
    assert pace.text(5) == ""
    pace.see(Event("outcome", "a", "skipped"))
    pace.see(Event("started", "b"))
    for _ in range(5):
        pace.see(Event("outcome", "b", "ok"))
    assert pace.text(1800) == "0.50 items/s, 1:00:00 left"


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_each_failure_with_its_reason(terminal: bool) -> None:
    from rich.console import Console

    stream = io.StringIO()
    with progress_reporter(Console(file=stream, force_terminal=terminal, width=200)) as report:
        report(Event("found", total=2))
        report(Event("started", "a", total=2))
        report(Event("outcome", "a", "ok", seconds=1.25, done=1, total=2))
        report(Event("outcome", "b", "failed", "[red]no header[/red]", done=2, total=2))
    assert "[2/2] b: failed: [red]no header[/red]" in stream.getvalue()
    if not terminal:
        assert stream.getvalue().splitlines()[:2] == ["2 items found", stream.getvalue().splitlines()[1]]
        assert stream.getvalue().splitlines()[1].startswith("[1/2] a: ok in 1.2 s  (")
