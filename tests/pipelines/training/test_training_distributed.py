"""Two gloo processes train as one does, and stop together."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

SETTINGS: dict[str, Any] = {"epochs": 3, "batch_size": 4, "lr": 0.01, "accumulate": 2, "ema": 0.9}


def launch(script: Path, folder: Path, settings: dict[str, Any], *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    return subprocess.Popen(
        [*command, str(script), str(folder), json.dumps(settings), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def read_history(folder: Path) -> list[dict[str, str]]:
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.mark.slow
def test_two_processes_train_like_one_and_stop_and_go_on_together(
    toy: ModuleType, toy_script: Path, tmp_path: Path
) -> None:
    one = toy.run_toy(tmp_path / "one", SETTINGS, task=toy.ToyTask(dropout=0.0))

    process = launch(toy_script, tmp_path / "two", SETTINGS, "--slow", "0.3")
    deadline = time.monotonic() + 90
    while not (tmp_path / "two" / "history.csv").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=90)
    assert told.count("Interrupted: stopped by SIGTERM") == 2, told

    process = launch(toy_script, tmp_path / "two", SETTINGS, "--resume")
    output, told = process.communicate(timeout=120)
    assert process.returncode == 0, told
    ends = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    assert len(ends) == 2
    assert ends[0]["steps"] == ends[1]["steps"] == one.steps_done
    assert ends[0]["score"] == ends[1]["score"]
    assert all(len(ids) == 2 for end in ends for ids in end["seen"])

    for name in ("last", "best"):
        ours = load_file(tmp_path / "one" / "checkpoints" / name / "weights.safetensors")
        theirs = load_file(tmp_path / "two" / "checkpoints" / name / "weights.safetensors")
        for key in ours:
            torch.testing.assert_close(theirs[key], ours[key], rtol=1e-3, atol=1e-4)
    for ours_row, theirs_row in zip(read_history(tmp_path / "one"), read_history(tmp_path / "two"), strict=True):
        assert theirs_row["step"] == ours_row["step"]
        assert float(theirs_row["train/loss"]) == pytest.approx(float(ours_row["train/loss"]), rel=1e-3)
        assert float(theirs_row["validation/accuracy"]) == pytest.approx(
            float(ours_row["validation/accuracy"]), abs=0.02
        )
