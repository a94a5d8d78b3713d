"""The loop: when it validates and stops, what it keeps and shows, and how it fails."""

from __future__ import annotations

import csv
import errno
import io
import math
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import pipelines.training.checkpoints as checkpoints
import pipelines.training.progress as progress
from pipelines.errors import CaseError, ConfigurationError, DataError, EnvironmentProblem, TrainingError
from pipelines.training.progress import format_duration

PLAIN: dict[str, Any] = {"epochs": 4, "batch_size": 3, "lr": 0.02}


class Recorder:
    def __init__(self) -> None:
        self.logged: list[tuple[int, dict[str, float]]] = []

    def log_metrics(self, values: Mapping[str, float], step: int) -> None:
        self.logged.append((step, dict(values)))


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_it_learns_and_keeps_the_best_weights(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.ToyTask()
    result = toy.run_toy(tmp_path, PLAIN | {"epochs": 12}, task=task)
    assert result.best_score > 0.9
    network = task.build_network()
    network.load_state_dict(load_file(result.weights))
    predictor = task.predictor(network.eval(), device=torch.device("cpu"))
    scores = [
        row.value
        for case in toy.make_cases(3, "val")
        for row in task.judge(case, predictor.infer(predictor.read(task.item(case))))
    ]
    assert sum(scores) / len(scores) == pytest.approx(result.best_score)
    assert {result.stopped_why, result.epochs_done, result.steps_done} == {"all epochs done", 12, 48}


def test_history_holds_a_row_for_each_epoch(toy: ModuleType, tmp_path: Path) -> None:
    toy.run_toy(tmp_path, PLAIN | {"validate_every": 3})
    rows = read_csv(tmp_path / "history.csv")
    assert list(rows[0])[:6] == ["epoch", "step", "seconds", "lr", "cases_per_second", "train/loss"]
    assert [row["epoch"] for row in rows] == ["1", "2", "3", "4"]
    assert [row["step"] for row in rows] == ["4", "8", "12", "16"]
    assert [bool(row["validation/accuracy"]) for row in rows] == [False, False, True, True]
    assert float(rows[2]["validation/accuracy"]) == pytest.approx(
        (float(rows[2]["validation/accuracy/dark"]) + float(rows[2]["validation/accuracy/bright"])) / 2
    )
    assert float(rows[0]["train/entropy"]) == pytest.approx(2 * float(rows[0]["train/loss"]))


def test_metrics_reach_the_tracker(toy: ModuleType, tmp_path: Path) -> None:
    recorder = Recorder()
    toy.run_toy(tmp_path, PLAIN | {"log_every": 2}, tracker=recorder)
    steps = [step for step, values in recorder.logged if "step/loss" in values]
    assert steps == [2, 4, 6, 8, 10, 12, 14, 16]
    epochs = [(step, values) for step, values in recorder.logged if "train/loss" in values]
    assert [step for step, _ in epochs] == [1, 2, 3, 4]
    assert {
        "train/learning_rate",
        "train/cases_per_second",
        "train/seconds",
        "train/entropy",
        "validation/accuracy",
        "validation/accuracy/bright",
    } <= epochs[0][1].keys()


def test_a_failing_tracker_is_reported_once_and_stops_nothing(toy: ModuleType, tmp_path: Path) -> None:
    class Broken:
        def log_metrics(self, values: Mapping[str, float], step: int) -> None:
            raise ConnectionError("the server is gone")

    shown = io.StringIO()
    result = toy.run_toy(tmp_path, PLAIN | {"log_every": 1}, tracker=Broken(), console=Console(file=shown))
    assert result.epochs_done == 4
    assert shown.getvalue().count("the server is gone") == 1


def test_it_stops_after_so_many_validations_without_a_better_score(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.ToyTask(scores=[0.5, 0.7, 0.7, math.nan, 0.6, 0.9, 0.9])
    result = toy.run_toy(tmp_path, PLAIN | {"epochs": 7, "patience": 3}, task=task)
    assert (result.stopped_why, result.epochs_done, result.best_epoch) == ("no improvement", 5, 2)
    assert result.best_score == pytest.approx(0.7)


def test_a_better_score_resets_the_patience(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.ToyTask(scores=[0.5, 0.4, 0.6, 0.5, 0.7, 0.6, 0.6])
    result = toy.run_toy(tmp_path, PLAIN | {"epochs": 7, "patience": 2}, task=task)
    assert (result.stopped_why, result.epochs_done, result.best_epoch) == ("all epochs done", 7, 5)


def test_without_validation_cases_the_last_weights_are_kept_and_it_says_so(toy: ModuleType, tmp_path: Path) -> None:
    shown = io.StringIO()
    result = toy.run_toy(tmp_path, PLAIN, validation=[], console=Console(file=shown))
    assert (result.best_epoch, result.best_score) == (4, None)
    assert result.weights.parent.name == "last"
    assert load_file(result.weights)
    assert any("no validation case" in notice for notice in result.notices)
    assert "no validation case" in shown.getvalue()


def test_a_score_that_is_never_defined_keeps_the_last_weights(toy: ModuleType, tmp_path: Path) -> None:
    result = toy.run_toy(tmp_path, PLAIN, task=toy.ToyTask(scores=[math.nan] * 4))
    assert result.best_score is None
    assert result.weights.parent.name == "last"
    assert any("never defined" in notice for notice in result.notices)


def test_time_runs_out(toy: ModuleType, tmp_path: Path) -> None:
    result = toy.run_toy(tmp_path, PLAIN | {"epochs": 1000, "max_minutes": 0.02})
    assert result.stopped_why == "time is up"
    assert 0 < result.epochs_done < 1000
    assert result.best_score is not None
    assert result.seconds < 10


def test_steps_per_epoch_draw_samples_as_often_as_it_takes(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.ToyTask()
    result = toy.run_toy(
        tmp_path, {"epochs": 2, "batch_size": 4, "steps_per_epoch": 5}, task=task, training=toy.make_cases(2)
    )
    assert result.steps_done == 10
    assert [len(ids) for ids in task.seen] == [4] * 10


@pytest.mark.parametrize(
    ("values", "more", "kind", "words"),
    [
        pytest.param({}, {"training": []}, DataError, "no training case", id="no training case"),
        pytest.param({"batch_size": 11}, {}, ConfigurationError, "train.batch_size.*11.*10", id="batch too large"),
    ],
)
def test_what_cannot_start_says_why(
    toy: ModuleType, tmp_path: Path, values: dict[str, Any], more: dict[str, Any], kind: type[Exception], words: str
) -> None:
    with pytest.raises(kind, match=words):
        toy.run_toy(tmp_path, PLAIN | values, **more)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_names_its_cases(toy: ModuleType, tmp_path: Path, value: float) -> None:
    task = toy.ToyTask(spoil=lambda step, loss: loss * value if step == 9 else loss)
    with pytest.raises(TrainingError) as caught:
        toy.run_toy(tmp_path, PLAIN | {"accumulate": 2}, task=task)
    text = str(caught.value)
    assert "epoch 3, optimizer step 5" in text
    assert f"cases: {', '.join(task.seen[9])}\n" in text
    assert "train.lr" in text
    saved = checkpoints.load_checkpoint(tmp_path / "checkpoints" / "last")
    assert saved is not None
    assert saved.state["standing"]["epoch"] == 2
    assert all(torch.isfinite(value).all() for value in saved.weights.values())


def test_a_gradient_that_is_not_finite_is_told_too(toy: ModuleType, tmp_path: Path) -> None:
    task = toy.ToyTask(spoil=lambda step, loss: loss + 0 * torch.sqrt(loss * 0) if step == 2 else loss)
    with pytest.raises(TrainingError, match=r"norm of the gradient became nan in epoch 1, optimizer step 3"):
        toy.run_toy(tmp_path, PLAIN, task=task)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU", id="gpu"),
        pytest.param(
            RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
            "the machine",
            id="cpu",
        ),
        pytest.param(MemoryError(), "the machine", id="python"),
    ],
)
def test_running_out_of_memory_says_what_to_lower(
    toy: ModuleType, tmp_path: Path, error: Exception, words: str
) -> None:
    def fail(step: int) -> None:
        if step == 5:
            raise error

    with pytest.raises(TrainingError, match=f"{words} ran out of memory in epoch 2, optimizer step 6") as caught:
        toy.run_toy(tmp_path, PLAIN, task=toy.ToyTask(before_step=fail))
    assert "train.batch_size" in caught.value.hint
    assert "case" in caught.value.message


def test_other_errors_are_left_as_they_are(toy: ModuleType, tmp_path: Path) -> None:
    def fail(step: int) -> None:
        raise RuntimeError("shapes do not fit")

    with pytest.raises(RuntimeError, match="shapes do not fit"):
        toy.run_toy(tmp_path, PLAIN, task=toy.ToyTask(before_step=fail))


def test_a_full_disk_keeps_the_last_good_checkpoint(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = 0
    write = checkpoints._write

    def fill(path: Path, content: bytes) -> None:
        nonlocal written
        written += 1
        if written > 9:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(path, content)

    monkeypatch.setattr(checkpoints, "_write", fill)
    with pytest.raises(EnvironmentProblem, match="the disk is full") as caught:
        toy.run_toy(tmp_path, PLAIN)
    assert caught.value.exit_code == 5
    monkeypatch.undo()
    assert checkpoints.load_checkpoint(tmp_path / "checkpoints" / "last") is not None
    toy.run_toy(tmp_path, PLAIN, resume=True)
    toy.run_toy(tmp_path / "whole", PLAIN)
    ends = [load_file(folder / "checkpoints/last/weights.safetensors") for folder in (tmp_path, tmp_path / "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("case_id", ["case04", "val01"])
def test_a_case_that_cannot_be_read_stops_the_training_by_name(
    toy: ModuleType, tmp_path: Path, workers: int, case_id: str
) -> None:
    with pytest.raises(CaseError, match=f"{case_id}: cannot be read") as caught:
        toy.run_toy(tmp_path, PLAIN | {"workers": workers}, task=toy.ToyTask(unreadable=[case_id]))
    assert caught.value.case_id == case_id


def test_or_is_set_aside_and_recorded_beside_what_was_before(toy: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "excluded.csv").write_text("case_id,reason,hint\nold,broken,repair it\n")
    task = toy.ToyTask(unreadable=["case04", "val01"])
    shown = io.StringIO()
    result = toy.run_toy(tmp_path, PLAIN | {"on_bad_case": "skip"}, task=task, console=Console(file=shown))
    assert result.excluded == (("case04", "cannot be read"), ("val01", "cannot be read"))
    assert [row["case_id"] for row in read_csv(tmp_path / "excluded.csv")] == ["old", "case04", "val01"]
    assert "case04" not in {case_id for ids in task.seen for case_id in ids}
    assert shown.getvalue().count("set aside case04") == 1


def test_a_killed_loader_process_is_told_as_one(toy: ModuleType, tmp_path: Path) -> None:
    class Killing(toy.ToyData):  # type: ignore[name-defined, misc]
        def __getitem__(self, key: Any) -> Any:
            if key.epoch == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__getitem__(key)

    task = toy.ToyTask()
    task.training_data = lambda cases, *, seed: Killing(cases, seed, frozenset())
    with pytest.raises(EnvironmentProblem, match="1 processes that prepare samples was killed"):
        toy.run_toy(tmp_path, PLAIN | {"workers": 1}, task=task)


def test_elsewhere_than_on_a_terminal_a_line_comes_every_half_minute(
    toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(0, 100_000, 7))
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: float(next(clock))))
    shown = io.StringIO()
    toy.run_toy(tmp_path, PLAIN | {"epochs": 10}, console=Console(file=shown))
    lines = shown.getvalue().splitlines()
    steps = [line for line in lines if line.startswith("epoch ")]
    assert all("loss" in line and "lr" in line and "cases/s" in line and "left" in line for line in steps)
    assert 2 <= len(steps) <= 40
    assert "\x1b" not in shown.getvalue()


def test_a_short_training_is_quiet_elsewhere(toy: ModuleType, tmp_path: Path) -> None:
    shown = io.StringIO()
    toy.run_toy(tmp_path, PLAIN, console=Console(file=shown))
    assert len(shown.getvalue().splitlines()) == 1
    assert "best accuracy" in shown.getvalue()


def test_two_bars_on_a_terminal(toy: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_BAR_EVERY", 0.0)
    shown = io.StringIO()
    toy.run_toy(tmp_path, PLAIN, console=Console(file=shown, force_terminal=True, width=160, color_system=None))
    assert "epoch 4" in shown.getvalue()
    assert "training" in shown.getvalue()
    assert "cases/s" in shown.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(3.4, "3 s"), (59.7, "1 min 00 s"), (200, "3 min 20 s"), (7500, "2 h 05 min")]
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text
