"""From a model folder to results, through real worker processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from stand_in_task import ScalingTask

from pipelines import task as tasks
from pipelines.errors import ConfigurationError, EnvironmentProblem, ModelFolderError
from pipelines.inference import BatchSettings, predict_batch
from pipelines.modelfolder import save_model
from pipelines.task import TaskEntry, register_task


@pytest.fixture(autouse=True)
def scaling_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_TASKS", dict(tasks._TASKS))
    register_task(TaskEntry("test/scaling", "stand_in_task:ScalingTask", "for tests"))


def _model(folder: Path, factor: float) -> Path:
    save_model(folder, ScalingTask(), {"weight": torch.tensor([[factor]])})
    return folder


def test_a_run_folder_predicts_and_a_changed_model_or_setting_does_it_again(bench: Any) -> None:
    run = bench.root / "run"
    _model(run / "model", 3.0)
    bench.put(two="2", five="5")
    summary = predict_batch(str(run), [str(bench.inputs)], bench.out)
    assert summary.counts["ok"] == 2
    assert bench.results() == {"two": "6", "five": "15"}
    assert summary.device == "cpu"

    assert predict_batch(run / "model", [bench.inputs], bench.out).counts["skipped"] == 2

    _model(run / "model", 4.0)
    settings = BatchSettings(device="cpu", changes={"infer.offset": 0.5})
    assert predict_batch(run, [bench.inputs], bench.out, settings).counts["ok"] == 2
    assert bench.results() == {"two": "8.5", "five": "20.5"}


def test_what_cannot_work_is_said_before_the_output_folder_is_made(bench: Any) -> None:
    model = _model(bench.root / "model", 3.0)
    bench.put(two="2")
    with pytest.raises(ConfigurationError, match=r"no setting 'infer.ofset' \(allowed there: offset\)"):
        predict_batch(model, [bench.inputs], bench.out, BatchSettings(changes={"infer.ofset": 1}))
    with pytest.raises(ModelFolderError, match="does not exist"):
        predict_batch(bench.root / "nowhere", [bench.inputs], bench.out)
    assert not bench.out.exists()


def test_a_worker_that_cannot_open_the_model_says_why(bench: Any) -> None:
    model = _model(bench.root / "model", 3.0)
    bench.put(two="2")
    if not torch.cuda.is_available():
        with pytest.raises(EnvironmentProblem, match="sees no GPU"):
            predict_batch(model, [bench.inputs], bench.out, BatchSettings(device="cuda"))
    (model / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(ModelFolderError, match="sha256"):
        predict_batch(model, [bench.inputs], bench.out)


@pytest.mark.slow
def test_a_ray_cluster_gives_the_same_results(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    from stand_in_predictor import StandInSource

    bench.put(a="one", b="two", bad="read:bad", crash="compute:crash")
    try:
        summary = bench.run(source=StandInSource(), executor="ray", retries=0)
    except EnvironmentProblem as error:
        if "timed out during startup" not in str(error):
            raise
        pytest.skip("this machine is too busy to start a Ray cluster in the 30 seconds that Ray allows")
    assert bench.results() == {"a": "ONE", "b": "TWO"}
    assert {one.item_id: one.outcome for one in summary.failures} == {"bad": "failed", "crash": "failed"}
    assert bench.run().counts["skipped"] == 2
