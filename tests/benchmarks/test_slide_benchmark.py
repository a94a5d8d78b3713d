"""The benchmark of extraction runs at its smallest size, and its contestants agree. No time is judged."""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"


def test_extraction_gives_the_features_of_the_plain_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "results.json"
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", ["slide_features.py", "--quick", "--json", str(path)])
    runpy.run_path(str(FOLDER / "slide_features.py"), run_name="__main__")
    results = json.loads(path.read_text(encoding="utf-8"))["results"]
    assert results["tiles"] == 2
    assert results["relative difference"]["pulvinar float32"] < 1e-3
    assert results["relative difference"]["pulvinar bfloat16"] < 0.1
    assert capsys.readouterr().out.splitlines()[-1] == f"Results: {path}"
