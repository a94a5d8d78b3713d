"""The benchmarks of bags run at their smallest size; nothing is said of time."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a script; gives what it printed."""
    monkeypatch.syspath_prepend(str(FOLDER))

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [str(FOLDER / name), *arguments])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.mark.parametrize("how", ["forward", "training"])
def test_a_network_is_measured_on_one_bag(script: Callable[..., str], how: str) -> None:
    told = script("bags.py", "one", "--name", "acmil", "--how", how, "--instances", "300", "--features", "16")
    found = json.loads(told.splitlines()[-1])
    assert found["seconds"] > 0
    assert 0.05 < found["gibibytes"] < 8


def test_both_methods_are_compared_on_the_same_bags(script: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    told = script("acmil_vs_abmil.py", "--quick", "--folds", "2", "--turns", "1", "--json", str(path))
    found = json.loads(path.read_text(encoding="utf-8"))["results"]["made up"]
    apart = found["paired"]["auc"]
    assert apart["difference"] == pytest.approx(found["acmil"]["auc"] - found["abmil"]["auc"])
    assert apart["low"] <= apart["difference"] <= apart["high"]
    assert "made up" in told


def test_a_choice_is_made_without_the_array_that_it_is_judged_on(script: Callable[..., str], tmp_path: Path) -> None:
    path = tmp_path / "found.json"
    script("nested_choice.py", "--quick", "--json", str(path))
    found = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert set(found["chosen"]) == {"a", "b", "c"}
    assert all(0 <= one["auc"] <= 1 for one in found["networks"].values())

    import nested_choice

    arrays, truth = np.repeat(["a", "b", "c"], 2), np.array([False, True] * 3)
    right, wrong = np.where(truth, 0.9, 0.1), np.where(truth, 0.1, 0.9)
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    # One network is right everywhere but on array a, the other on array a alone: a's own cores must not count for a.
    good = {pair: np.where(np.isin(arrays, pair), np.where(arrays == "a", wrong, right), np.nan) for pair in pairs}
    bad = {pair: np.where(np.isin(arrays, pair), np.where(arrays == "a", right, wrong), np.nan) for pair in pairs}
    assert nested_choice.choose({"good": good, "bad": bad}, arrays, truth)["a"] == "good"
    tied = {pair: np.where(np.isin(arrays, pair), 0.5, np.nan) for pair in pairs}
    assert nested_choice.choose({"tied": tied, "bad": bad}, arrays, truth)["a"] == "tied"
