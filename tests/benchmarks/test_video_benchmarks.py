"""Benchmarks of video run at their smallest size, and their contestants do the same work. No time is judged."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], Any]:
    """Runs a script; gives its results and what it printed."""

    def run(name: str) -> tuple[dict[str, Any], str]:
        path = tmp_path / "results.json"
        monkeypatch.syspath_prepend(str(FOLDER))
        monkeypatch.setattr(sys, "argv", [f"{name}.py", "--quick", "--json", str(path)])
        runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        printed = capsys.readouterr().out
        assert printed.splitlines()[-1] == f"Results: {path}"
        return json.loads(path.read_text(encoding="utf-8"))["results"], printed

    return run


def test_every_side_decodes_the_same_frames_and_openings_leave_no_file(run: Callable[[str], Any]) -> None:
    results, printed = run("video_decoding")
    assert [(row["request"], row["size"]) for row in results["rows"]] == [
        (request, size) for request in ("scattered", "dense") for size in ("as it is", "112×112")
    ]
    for kind in ("clock", "processor"):
        assert all(len(row[kind]["seconds"]) == 5 for row in results["rows"]), printed
        assert all(row[kind]["times as fast"] > 0 for row in results["rows"])
    assert len({held["files"] for held in results["openings"].values()}) == 1


def test_both_loops_train_the_same_network(run: Callable[[str], Any]) -> None:
    results, _ = run("skeleton_training")
    assert {name: len(turns) for name, turns in results["seconds a step"].items()} == {"plain loop": 4, "Pulvinar": 4}
    assert results["clips"] == 64


def test_persons_together_and_one_by_one_have_the_same_joints(run: Callable[[str], Any]) -> None:
    threads = torch.get_num_threads()
    try:
        results, _ = run("pose_inference")
    finally:
        torch.set_num_threads(threads)
    assert results["largest difference in pixels"] < 0.05
    assert {len(turns) for turns in results["seconds"].values()} == {2}


@pytest.mark.parametrize("name", ["video_decoding", "skeleton_training", "pose_inference"])
def test_every_script_is_described(name: str) -> None:
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text(encoding="utf-8")
