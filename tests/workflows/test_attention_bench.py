"""`pulvinar attention bench`: tables, the plot, and the errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pipelines.errors import ExitCode
from workflows.main import run


def test_bench_leaves_tables_and_a_plot_beside_full_attention(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["attention", "bench", "eca", "--quick", "--device", "cpu", "--out", str(tmp_path), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    rows = list(csv.DictReader((tmp_path / "measurements.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["name"], row["tokens"], row["outcome"]) for row in rows] == [
        (name, size, "ok") for name in ("full", "eca") for size in ("196", "784")
    ]
    assert [row["training_bytes"] for row in rows] == [str(row["training_bytes"]) for row in printed["measurements"]]
    grown = list(csv.DictReader((tmp_path / "growth.csv").read_text(encoding="utf-8").splitlines()))
    assert [row["name"] for row in grown] == ["full", "eca"]
    assert (tmp_path / "growth.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        pytest.param(["windw"], "did you mean 'window'", id="unknown mechanism"),
        pytest.param(["eca", "--sizes", "many"], "--sizes 'many'", id="sizes"),
        pytest.param(["full", "--linear"], "none of them", id="none left"),
    ],
)
def test_what_cannot_be_measured_is_refused(
    options: list[str], said: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert run(["attention", "bench", *options, "--out", str(tmp_path / "out")]) == ExitCode.USAGE
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
