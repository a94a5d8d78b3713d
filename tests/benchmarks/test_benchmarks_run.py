"""Benchmarks run at their smallest size, compare labels, and say where their results lie. No time is judged."""

import json
import logging
import runpy
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = ("batch_prediction", "slab_memory", "sliding_window", "tracking_overhead", "training_overhead")


@pytest.fixture
def benchmark(monkeypatch, tmp_path, capsys):
    """Runs a script with arguments; gives its results and what it printed."""
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")

    def run(name: str, *arguments: str) -> tuple[dict, str]:
        path = tmp_path / f"{name}.json"
        script = FOLDER / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), "--quick", "--json", str(path), *arguments])
        runpy.run_path(str(script), run_name="__main__")
        printed = capsys.readouterr().out
        assert printed.splitlines()[-1] == f"Results: {path}"
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["environment"]["command"].startswith(f"python benchmarks/{name}.py --quick")
        return content["results"], printed

    yield run
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sliding_windows_give_the_labels_of_monai(benchmark, precision):
    results, printed = benchmark("sliding_window", "--classes", "5", "--precision", precision)
    assert list(results) == ["24x32x20"]
    assert results["24x32x20"]["voxels"] == 24 * 32 * 20
    assert results["24x32x20"]["voxels that differ"] == 0
    assert "times as fast" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="peaks are read from /proc, which only Linux has")
def test_a_slab_gives_the_labels_of_the_whole_volume(benchmark):
    results, printed = benchmark("slab_memory", "--part", "scan")
    assert results["voxels"] == 96 * 48 * 48
    assert results["voxels that differ"] == 0
    assert all(turn["peak"] > 0 for turns in results["turns"].values() for turn in turns)
    assert "held before" in printed


def test_training_overhead_is_told(benchmark):
    results, _ = benchmark("training_overhead")
    assert {name: len(turns) for name, turns in results["seconds a step"].items()} == {"bare loop": 1, "train": 1}


def test_tracking_overhead_is_told(benchmark):
    results, printed = benchmark("tracking_overhead")
    assert results["SQLite store"][0]["call"]["mean"] > 0
    assert "share of a step" in printed


@pytest.mark.parametrize("name", [*SCRIPTS, "plain_monai"])
def test_every_script_is_described(name):
    assert f"`{name}.py`" in (FOLDER / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SCRIPTS)
def test_help_says_what_is_compared(benchmark, monkeypatch, capsys, name):
    script = FOLDER / f"{name}.py"
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert ended.value.code == 0
    assert f"python benchmarks/{name}.py" in capsys.readouterr().out
