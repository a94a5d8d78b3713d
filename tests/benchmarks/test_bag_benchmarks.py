"""The benchmarks of bags run at their smallest size; nothing is said of time."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path

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
