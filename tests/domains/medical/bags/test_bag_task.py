"""Bags from their files to a trained, judged, saved and serving model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from domains.medical.bags.building import NETWORKS
from domains.medical.bags.settings import BagWorkflow
from domains.medical.bags.task import BagTask
from pipelines.config import load_workflow
from pipelines.errors import ConfigurationError
from pipelines.experiment.runner import run_workflow
from pipelines.inference.items import Item
from pipelines.modelfolder import load_model
from pipelines.task import SampleKey
from workflows.tasks import register_tasks


def configure(arrays: Path, **changes: Any) -> BagWorkflow:
    base = {
        "task": "medical/bags",
        "name": "test",
        "output": str(arrays.parent / "runs"),
        "data": {"format": "arrays", "file": str(arrays)},
        "target": {"classes": {"near": 0, "far": 1}},
        "model": {"name": "abmil", "hidden": [8], "attention_hidden": 8},
    }
    return BagWorkflow.model_validate(base | changes)


@pytest.fixture
def fitted(arrays: Path) -> BagTask:
    task = BagTask(configure(arrays))
    task.fit(task.read_cases().cases[:16])
    return task


def test_samples_are_padded_and_drawn_by_their_key(arrays: Path) -> None:
    task = BagTask(configure(arrays, features={"most_instances": 4}))
    cases = task.read_cases().cases
    task.fit(cases)
    data = task.training_data(cases, seed=1)
    whole = BagTask(configure(arrays)).training_data(cases, seed=1)
    long = next(n for n in range(len(cases)) if len(whole[SampleKey(0, n)]["bag"]) == 8)
    draws = [data[SampleKey(epoch, long)]["bag"] for epoch in range(4)]
    assert {len(bag) for bag in draws} == {4}
    assert torch.equal(draws[0], data[SampleKey(0, long)]["bag"])
    assert any(not torch.equal(draws[0], bag) for bag in draws[1:])
    batch = whole.collate([whole[SampleKey(0, number)] for number in range(6)])
    assert batch["bags"].shape == (6, int(batch["mask"].sum(1).max()), 6)
    assert batch["target"].tolist() == [0, 1, 0, 1, 0, 1]
    assert (batch["bags"][~batch["mask"]] == 0).all()


def test_standardised_features_are_part_of_the_network(fitted: BagTask, arrays: Path) -> None:
    network = fitted.build_network()
    training = np.concatenate([fitted._reader.read(fitted.item(case)).features for case in fitted.read_cases()[:16]])
    np.testing.assert_allclose(network.mean.numpy(), training.mean(0), atol=1e-5)
    np.testing.assert_allclose(network.deviation.numpy(), training.std(0), rtol=1e-4)
    plain = BagTask(configure(arrays, features={"standardise": False}))
    plain.fit(plain.read_cases().cases)
    assert plain.build_network().mean.abs().max() == 0


@pytest.mark.parametrize("name", list(NETWORKS))
def test_every_network_takes_a_step_and_serves_by_its_description(arrays: Path, name: str) -> None:
    small: dict[str, Any] = {"transmil": {"hidden": 16, "heads": 2}, "acmil_heads": {"heads": 2, "hidden": [8]}}.get(
        name,
        {"query": {"heads": 2, "hidden": [8]}, "mixer": {"mixer": {"name": "full", "heads": 2}, "hidden": 8}}.get(
            name, {}
        ),
    )
    task = BagTask(configure(arrays, model={"name": name, **small}))
    cases = task.read_cases().cases
    task.fit(cases)
    torch.manual_seed(0)
    network = task.build_network()
    data = task.training_data(cases, seed=0)
    batch = data.collate([data[SampleKey(0, number)] for number in range(6)])
    losses = task.loss_step(network.train(), batch)
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    told = task.describe()
    served = BagTask.from_description(json.loads(json.dumps(told)))
    copy = served.build_network()
    copy.load_state_dict(network.state_dict())
    results = []
    for one, weights in ((task, network), (served, copy)):
        predictor = one.predictor(weights, device=torch.device("cpu"))
        results.append(predictor.infer(predictor.read(task.item(cases[0]))))
    np.testing.assert_array_equal(results[0].probabilities, results[1].probabilities)
    assert results[0].attention.sum() == pytest.approx(1, abs=1e-5)
    assert served.describe() == told


def test_balanced_weights_make_classes_count_alike() -> None:
    from domains.medical.bags.loss import class_weights, make_criterion
    from domains.medical.bags.settings import LossSettings
    from domains.medical.bags.target import Target

    target = Target(("a", "b"), column="label", values=("0", "1"))
    assert class_weights(LossSettings(class_weights="balanced"), target, (30, 10), 40) == pytest.approx([2 / 3, 2])
    assert class_weights(LossSettings(class_weights={"b": 3.0}), target, (30, 10), 40) == [1.0, 3.0]
    assert class_weights(LossSettings(), target, (30, 10), 40) is None
    several = Target(("a", "b"), several=True)
    assert class_weights(LossSettings(class_weights="balanced"), several, (30, 10), 40) == pytest.approx([1 / 3, 3])
    logits, wanted = torch.randn(5, 2), torch.tensor([[1.0, 0]] * 5)
    loss = make_criterion(several, weights=[1 / 3, 3], smoothing=0.0)(logits, wanted)
    by_hand = -(torch.log(logits[:, 0].sigmoid()) / 3 + torch.log(1 - logits[:, 1].sigmoid())).mean() / 2
    torch.testing.assert_close(loss, by_hand)


def test_a_model_of_other_classes_is_refused(fitted: BagTask, arrays: Path) -> None:
    served = BagTask.from_description(fitted.describe())
    same = served.with_workflow(configure(arrays))
    assert len(same.read_cases()) == 24
    other = served.with_workflow(configure(arrays, target={"classes": {"far": 1, "near": 0}}))
    with pytest.raises(ConfigurationError, match="knows the classes near, far; the cases have far, near"):
        other.read_cases()


def workflow(arrays: Path, *lines: str) -> Path:
    text = [
        "task: medical/bags",
        "name: points",
        f"data: {{format: arrays, file: {arrays}}}",
        "target: {classes: {near: 0, far: 1}}",
        "model: {name: abmil, hidden: [16], attention_hidden: 8, dropout: 0}",
        "train: {epochs: 25, batch_size: 4, lr: 2.0e-2, precision: fp32}",
        "evaluate: {resamples: 1000, worst: 1}",
        "track: {enabled: false}",
        f"output: {arrays.parent / 'runs'}",
        *lines,
    ]
    path = arrays.parent / "points.yaml"
    path.write_text("\n".join(text) + "\n")
    return path


def test_a_run_ends_with_a_model_that_predicts(arrays: Path) -> None:
    register_tasks()
    path = workflow(arrays, "split: {test: 0.3, validation: 0, stratify: label}")
    outcome = run_workflow(load_workflow(path))
    summary = outcome.summary.set_index(["class", "metric"])["mean"]
    assert summary["far", "auc"] > 0.9
    assert 0 < summary["bag", "attention_entropy"] < 1
    for name in ("roc", "precision_recall", "reliability", "confusion"):
        assert (outcome.run.figures / f"{name}.png").is_file()
        assert len(pd.read_csv(outcome.run.figures / f"{name}.csv"))
    predictions = pd.read_csv(outcome.run.evaluation / "test.predictions.csv")
    assert {"truth", "predicted", "probability/near", "probability/far"} <= set(predictions)
    assert "auc" in outcome.run.report.read_text(encoding="utf-8").lower()

    loaded = load_model(outcome.run.model)
    predictor = loaded.task.predictor(loaded.network, device=torch.device("cpu"))
    (item,) = [one for one in predictor.discover([arrays]) if one.detail["bag"] == "2"]
    result = predictor.infer(predictor.read(item))
    written = predictor.write(item, result, arrays.parent / "out")
    told = json.loads((arrays.parent / "out" / f"{item.item_id}.json").read_text())
    assert told["predicted"] == "far"
    table = pd.read_csv(arrays.parent / "out" / f"{item.item_id}.attention.csv")
    assert table["attention"].sum() == pytest.approx(1, abs=1e-4)
    assert table["attention"].idxmax() == 0, "the instance that is far out"
    assert {path.name for path in written.files} == {f"{item.item_id}.json", f"{item.item_id}.attention.csv"}
    assert isinstance(item, Item)


def test_folds_are_put_together(arrays: Path) -> None:
    register_tasks()
    path = workflow(arrays, "split: {folds: 2, validation: 0, stratify: label}", "cross_validation: {}")
    outcome = run_workflow(load_workflow(path))
    summary = outcome.summary.set_index(["class", "metric"])
    assert summary.loc[("far", "auc"), "cases"] == 24
    assert summary.loc[("far", "auc"), "mean"] > 0.8
    folds = pd.read_csv(outcome.run.evaluation / "folds.csv")
    assert set(folds["fold"]) == {0, 1}
