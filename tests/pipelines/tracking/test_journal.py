"""The journal keeps whole events, whoever writes and whatever tears a line."""

from __future__ import annotations

import threading
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from pipelines.tracking.journal import Journal, read_events


def append_all(path: Path, *events: dict[str, object]) -> None:
    journal = Journal(path)
    for event in events:
        journal.append(event)
    journal.close()


def test_events_come_back_in_order_with_offsets_to_go_on_from(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "journal.jsonl"
    append_all(path, *({"event": "metrics", "step": step} for step in range(5)))
    offsets = [offset for _, offset in read_events(path)]
    assert [event["step"] for event, _ in read_events(path)] == [0, 1, 2, 3, 4]
    assert [event["step"] for event, _ in read_events(path, offsets[2])] == [3, 4]
    assert list(read_events(path, offsets[-1])) == []


def test_a_missing_journal_has_no_events(tmp_path: Path) -> None:
    assert list(read_events(tmp_path / "none")) == []


@given(cut=st.integers(min_value=1, max_value=40))
def test_a_torn_last_line_loses_that_event_only(tmp_path_factory: object, cut: int) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal.jsonl"  # type: ignore[attr-defined]
    append_all(path, {"event": "first"}, {"event": "torn", "text": "x" * 40})
    path.write_bytes(path.read_bytes()[:-cut])
    assert [event["event"] for event, _ in read_events(path)] == ["first"]
    append_all(path, {"event": "after"})
    assert [event["event"] for event, _ in read_events(path)][-1] == "after"
    assert "torn" not in [event["event"] for event, _ in read_events(path)] or cut == 1


def test_threads_do_not_mix_their_lines(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.jsonl")

    def write(author: int) -> None:
        for step in range(200):
            journal.append({"event": "metrics", "author": author, "step": step, "text": "é" * 300})

    threads = [threading.Thread(target=write, args=(author,)) for author in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    journal.close()
    events = [event for event, _ in read_events(tmp_path / "journal.jsonl")]
    assert len(events) == 800
    for author in range(4):
        assert [event["step"] for event in events if event["author"] == author] == list(range(200))
