"""What is put together from many results: whole, complete, and of one model."""

from __future__ import annotations

import json
from typing import Any

import pytest
from stand_in_predictor import JoiningSource, StandInSource

from pipelines.errors import ConfigurationError


def joined(bench: Any) -> list[str]:
    return (bench.out / "joined" / "all.txt").read_text().splitlines()


def test_results_are_joined_and_a_second_call_adds_the_new_ones(bench: Any) -> None:
    bench.put(a="one", b="two")
    bench.run(source=JoiningSource())
    assert joined(bench) == ["a.item: ONE", "b.item: TWO"]
    (bench.root / "more").mkdir()
    (bench.root / "more" / "c.item").write_text("three")
    bench.run(bench.root / "more", source=JoiningSource())
    assert joined(bench) == ["a.item: ONE", "b.item: TWO", "c.item: THREE"]
    said = json.loads((bench.out / "joined" / "provenance.json").read_text())
    assert (said["joined"], said["outputs"][0]["path"]) == (3, "all.txt")


def test_failed_items_and_results_of_another_model_are_not_joined(bench: Any) -> None:
    bench.put(a="one", b="read:bad truncated")
    bench.run(source=JoiningSource("old"))
    bench.put(b="two", c="three")
    bench.run(bench.inputs / "b.item", bench.inputs / "c.item", source=JoiningSource("new"))
    assert joined(bench) == ["b.item: TWO", "c.item: THREE"]
    bench.run(source=JoiningSource("new"))
    assert len(joined(bench)) == 3


def test_what_fails_half_way_leaves_what_was_there(bench: Any) -> None:
    bench.put(a="one")
    bench.run(source=JoiningSource())
    bench.put(b="two")
    with pytest.raises(OSError, match="torn"):
        bench.run(source=JoiningSource(join_fails="torn"))
    assert joined(bench) == ["a.item: ONE"]
    assert bench.outcomes() == {"a": "skipped", "b": "ok"}
    bench.run(source=JoiningSource())
    assert len(joined(bench)) == 2


def test_nothing_to_join_leaves_no_folder(bench: Any) -> None:
    bench.put(a="read:bad truncated")
    bench.run(source=JoiningSource())
    bench.put(b="two")
    bench.run(bench.inputs / "b.item", source=JoiningSource(joins=False))
    bench.run(bench.inputs / "b.item", source=StandInSource())
    assert not (bench.out / "joined").exists()


def test_an_item_of_that_name_gets_another_one(bench: Any) -> None:
    bench.put(joined="one", Joined="two")
    bench.run(source=JoiningSource())
    assert len(joined(bench)) == 2
    assert all(name.lower().startswith("_joined") for name in bench.outcomes())


def test_the_joined_table_is_no_input_of_the_next_call(bench: Any) -> None:
    bench.out.mkdir()
    (bench.out / "a.item").write_text("one")
    bench.run(bench.out / "a.item", source=JoiningSource())
    assert bench.run(bench.out / "a.item", source=JoiningSource()).counts["skipped"] == 1


def test_a_folder_that_stands_there_is_refused_beforehand(bench: Any) -> None:
    bench.put(a="one")
    (bench.out / "joined").mkdir(parents=True)
    (bench.out / "joined" / "mine.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="was not written by a prediction"):
        bench.run(source=JoiningSource())
    assert (bench.out / "joined" / "mine.txt").read_text() == "mine"
    bench.run(source=StandInSource())
