"""A training that was stopped, in whatever way, ends with the bits of one that was not."""

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

from pipelines.errors import ConfigurationError, DataError, EnvironmentProblem, Interrupted
from pipelines.training.checkpoints import load_checkpoint

PLAIN = {"epochs": 4, "batch_size": 3, "lr": 0.02}
RICH = PLAIN | {
    "accumulate": 2,
    "ema": 0.9,
    "schedule": {"name": "polynomial", "warmup_steps": 3},
    "optimizer": {"name": "sgd", "momentum": 0.9},
    "validate_every": 2,
    "precision": "bf16",
    "channels_last": True,
}


def remains(folder: Path) -> dict[str, Any]:
    """Everything a training leaves that must not depend on how it got there."""
    last = load_checkpoint(folder / "checkpoints" / "last")
    assert last is not None
    standing = dict(last.state["standing"])
    timed = ("seconds", "cases_per_second")
    rows = [{name: row[name] for name in row if name not in timed} for row in standing.pop("rows")]
    with (folder / "history.csv").open() as file:
        history = [{name: row[name] for name in row if name not in timed} for row in csv.DictReader(file)]
    best = folder / "checkpoints" / "best"
    return {
        "weights": last.weights,
        "engine": last.state["engine"],
        "standing": {name: standing[name] for name in standing if name != "seconds"},
        "rows": rows,
        "history": history,
        "best": load_file(best / "weights.safetensors"),
        "best state": json.loads((best / "state.json").read_text()),
    }


def assert_same_bits(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for name in one:
            assert_same_bits(one[name], other[name])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same_bits(left, right)
    else:
        assert one == other


def signalling(number: int, *steps: int) -> Any:
    return lambda step: os.kill(os.getpid(), number) if step in steps else None


def test_two_runs_with_one_seed_agree_and_another_seed_does_not(toy: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        toy.run_toy(tmp_path / name, PLAIN, seed=seed)
    assert_same_bits(remains(tmp_path / "a"), remains(tmp_path / "b"))
    assert remains(tmp_path / "a")["rows"] != remains(tmp_path / "c")["rows"]


@pytest.mark.parametrize("settings", [pytest.param(PLAIN, id="plain"), pytest.param(RICH, id="everything on")])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("at", [0, 3, 6, 11])
def test_a_signal_finishes_the_step_and_the_rest_comes_out_the_same(
    toy: ModuleType, tmp_path: Path, settings: dict[str, Any], number: int, at: int
) -> None:
    toy.run_toy(tmp_path / "whole", settings)
    handler = signal.getsignal(number)
    task = toy.ToyTask(before_step=signalling(number, at))
    with pytest.raises(Interrupted, match="--resume") as caught:
        toy.run_toy(tmp_path / "stopped", settings, task=task)
    assert caught.value.exit_code == 75
    assert signal.getsignal(number) is handler
    saved = load_checkpoint(tmp_path / "stopped" / "checkpoints" / "last")
    assert saved is not None
    window = settings.get("accumulate", 1)
    assert task.steps <= at + window
    toy.run_toy(tmp_path / "stopped", settings, resume=True)
    assert_same_bits(remains(tmp_path / "stopped"), remains(tmp_path / "whole"))


def test_stopped_after_every_single_step(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path / "whole", RICH)
    sessions = 0
    while True:
        sessions += 1
        try:
            toy.run_toy(
                tmp_path / "stopped", RICH, resume=True, task=toy.ToyTask(before_step=signalling(signal.SIGTERM, 0))
            )
        except Interrupted:
            continue
        break
    assert sessions > 8
    assert_same_bits(remains(tmp_path / "stopped"), remains(tmp_path / "whole"))


def test_a_signal_during_validation_is_heeded_before_the_epoch_is_closed(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path / "whole", PLAIN)

    class Stopping(toy.ToyTask):  # type: ignore[name-defined, misc]
        def judge(self, case: Any, result: Any) -> Any:
            if self.judged == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            return super().judge(case, result)

    with pytest.raises(Interrupted):
        toy.run_toy(tmp_path / "stopped", PLAIN, task=Stopping())
    assert len((tmp_path / "stopped" / "history.csv").read_text().splitlines()) == 2
    toy.run_toy(tmp_path / "stopped", PLAIN, resume=True)
    assert_same_bits(remains(tmp_path / "stopped"), remains(tmp_path / "whole"))


def test_a_second_signal_stops_at_once_and_the_last_checkpoint_serves(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path / "whole", PLAIN)

    def twice(step: int) -> None:
        if step == 6:
            os.kill(os.getpid(), signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    task = toy.ToyTask(before_step=twice)
    with pytest.raises(Interrupted, match="at once"):
        toy.run_toy(tmp_path / "stopped", PLAIN, task=task)
    assert task.steps == 6
    toy.run_toy(tmp_path / "stopped", PLAIN, resume=True)
    assert_same_bits(remains(tmp_path / "stopped"), remains(tmp_path / "whole"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_whole_process_group_spares_the_loader_processes(
    toy: ModuleType, toy_script: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Ctrl-C on a terminal and most schedulers signal every process of the group."""
    settings = PLAIN | {"workers": 2}
    process = subprocess.Popen(
        [sys.executable, str(toy_script), str(tmp_path / "stopped"), json.dumps(settings), "--slow", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "stopped" / "history.csv").exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, number)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 75, told
    assert f"stopped by {number.name}" in told
    task = toy.ToyTask(dropout=0.0)
    toy.run_toy(tmp_path / "stopped", settings, resume=True, task=task)
    assert 0 < task.steps < 16
    toy.run_toy(tmp_path / "whole", settings, task=toy.ToyTask(dropout=0.0))
    assert_same_bits(remains(tmp_path / "stopped"), remains(tmp_path / "whole"))


def test_killed_at_any_moment(toy: ModuleType, toy_script: Path, tmp_path: Path) -> None:
    """SIGKILL in the first epoch, in a later one, and around each rename of a checkpoint folder."""
    deaths = [("step", 1), ("step", 7), *(("replace", number) for number in range(1, 13))]
    done = subprocess.run(
        [sys.executable, str(toy_script), str(tmp_path), json.dumps(RICH), "--deaths", json.dumps(deaths)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.split() == ["-9"] * len(deaths)
    toy.run_toy(tmp_path / "whole", RICH)
    expected = remains(tmp_path / "whole")
    for number, _ in enumerate(deaths):
        toy.run_toy(tmp_path / f"death{number}", RICH, resume=True)
        assert_same_bits(remains(tmp_path / f"death{number}"), expected)
        left = {path.name for path in (tmp_path / f"death{number}" / "checkpoints").iterdir()}
        assert left == {".lock", "last", "best"}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_number_of_workers_leaves_no_trace(toy: ModuleType, tmp_path: Path, workers: int) -> None:
    toy.run_toy(tmp_path / "alone", PLAIN)
    task = toy.ToyTask(before_step=signalling(signal.SIGTERM, 5))
    with pytest.raises(Interrupted):
        toy.run_toy(tmp_path / "helped", PLAIN | {"workers": workers}, task=task)
    toy.run_toy(tmp_path / "helped", PLAIN | {"workers": workers}, resume=True)
    assert_same_bits(remains(tmp_path / "helped"), remains(tmp_path / "alone"))


def test_a_finished_training_is_not_trained_again(toy: ModuleType, tmp_path: Path) -> None:
    first = toy.run_toy(tmp_path, PLAIN)
    task = toy.ToyTask()
    again = toy.run_toy(tmp_path, PLAIN, resume=True, task=task)
    assert task.steps == 0
    assert (again.best_epoch, again.best_score, again.weights) == (first.best_epoch, first.best_score, first.weights)


def test_a_new_training_clears_what_a_former_one_left(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path, PLAIN | {"epochs": 6})
    toy.run_toy(tmp_path, PLAIN, seed=9)
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 1 + 4
    toy.run_toy(tmp_path / "fresh", PLAIN, seed=9)
    assert_same_bits(remains(tmp_path), remains(tmp_path / "fresh"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        pytest.param({"values": {"lr": 0.03}}, "train.lr", id="learning rate"),
        pytest.param({"values": {"optimizer": {"name": "sgd"}}}, "train.optimizer.momentum", id="optimizer"),
        pytest.param({"seed": 8}, "seed", id="seed"),
        pytest.param({"training": 9}, "training cases", id="training cases"),
        pytest.param({"validation": 2}, "validation cases", id="validation cases"),
    ],
)
def test_resuming_something_else_is_refused_by_name(
    toy: ModuleType, tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    toy.run_toy(tmp_path, PLAIN)
    more: dict[str, Any] = {name: toy.make_cases(change[name]) for name in ("training", "validation") if name in change}
    if "seed" in change:
        more["seed"] = change["seed"]
    with pytest.raises(ConfigurationError, match=named) as caught:
        toy.run_toy(tmp_path, PLAIN | change.get("values", {}), resume=True, **more)
    assert "without --resume" in str(caught.value)


def test_what_leaves_no_trace_may_change(toy: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.run_toy(tmp_path, PLAIN, task=toy.ToyTask(before_step=signalling(signal.SIGTERM, 4)))
    result = toy.run_toy(
        tmp_path, PLAIN | {"workers": 1, "log_every": 1, "max_minutes": 60, "checkpoint_every": 3}, resume=True
    )
    assert result.epochs_done == 4


def test_other_hardware_is_told_for_it_shows_in_the_last_bits(toy: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        toy.run_toy(tmp_path, PLAIN, task=toy.ToyTask(before_step=signalling(signal.SIGTERM, 4)))
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        result = toy.run_toy(tmp_path, PLAIN, resume=True)
    finally:
        torch.set_num_threads(threads)
    (notice,) = result.notices
    assert f"{threads} threads, resumed on cpu in fp32, {threads + 1} threads" in notice


def test_a_damaged_checkpoint_is_named(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path, PLAIN)
    file = tmp_path / "checkpoints" / "last" / "state.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="'last' cannot be read"):
        toy.run_toy(tmp_path, PLAIN, resume=True)


def test_one_training_at_a_time_in_a_run_folder(toy: ModuleType, tmp_path: Path) -> None:
    """Another process holds the lock; the kernel releases it when that process dies."""
    (tmp_path / "checkpoints").mkdir()
    holder = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import fcntl, os, sys\n"
            f"handle = os.open({str(tmp_path / 'checkpoints' / '.lock')!r}, os.O_RDWR | os.O_CREAT)\n"
            "fcntl.lockf(handle, fcntl.LOCK_EX); os.write(handle, b'4711')\n"
            "print('held', flush=True); sys.stdin.read()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(EnvironmentProblem, match=r"another process \(4711\)"):
            toy.run_toy(tmp_path, PLAIN)
        holder.kill()
    assert toy.run_toy(tmp_path, PLAIN).epochs_done == 4
