"""Every mechanism that serves images or volumes can be named in a segmentation workflow, and learns there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from domains.medical.segmentation import attention_settings
from domains.medical.segmentation.network import MixerResidual
from pipelines.config import load_workflow
from pipelines.errors import ConfigurationError
from pipelines.task import SampleKey, Task, find_task
from shared_attention import TokenMixer, cards
from workflows.catalogue import find_workflow
from workflows.tasks import register_tasks

TINY = ["model.channels=[4,12]", "model.deep_supervision=1", "patches.per_case=1", "augment.enabled=false"]
SERVING = {
    rank: [
        name for name, card in cards(rank=rank).items() if card.kind in ("mixer", "gate") and "self" in card.patterns
    ]
    for rank in (2, 3)
}
OTHERS = sorted(set(cards()) - set(SERVING[2]) - set(SERVING[3]))

PICTURES = """
task: medical/segmentation
name: pictures
data:
  format: folders
  root: .
  images: "images/{case}.png"
  labels: "labels/{case}.png"
classes: {bright: 1}
preprocess: {channels: 1, intensity: {name: unit}}
patches: {size: [12, 16], foreground: 1.0}
"""


@pytest.fixture(scope="module")
def workflows(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, list[str]]]:
    """A workflow with a few synthetic cases for each number of axes, and what keeps it small."""
    root = tmp_path_factory.mktemp("cases")
    rng = np.random.default_rng(0)
    for folder in ("images", "labels"):
        (root / folder).mkdir()
    for number in range(3):
        label = np.zeros((20, 24), np.uint8)
        label[4:12, 6:16] = 1
        picture = (60 + 120 * label + rng.integers(0, 20, label.shape)).astype(np.uint8)
        assert cv2.imwrite(str(root / "images" / f"case{number}.png"), picture)
        assert cv2.imwrite(str(root / "labels" / f"case{number}.png"), label)
    (root / "pictures.yaml").write_text(PICTURES, encoding="utf-8")
    output = f"output={root / 'out'}"
    volumes = [*TINY, output, "data.cases=2", "data.size=[12,12,10]", "patches.size=[8,8,8]", "patches.foreground=1"]
    return {2: (root / "pictures.yaml", [*TINY, output]), 3: (find_workflow("medical/phantom"), volumes)}


def task_of(workflow: tuple[Path, list[str]], *overrides: str) -> Task:
    register_tasks()
    path, tiny = workflow
    config = load_workflow(path, [*tiny, *overrides]).config
    return find_task(config.task).load()(config)


@pytest.mark.parametrize(
    ("name", "rank"), [pytest.param(name, rank, id=f"{name}-{rank}D") for rank in SERVING for name in SERVING[rank]]
)
def test_a_mechanism_is_chosen_by_name_and_learns(
    name: str, rank: int, workflows: dict[int, tuple[Path, list[str]]]
) -> None:
    task = task_of(workflows[rank], f"model.attention.name={name}")
    cases = task.read_cases().cases[:2]
    task.fit(cases)
    data = task.training_data(cases, seed=0)
    batch = data.collate([data[SampleKey(0, index)] for index in range(2)])
    torch.manual_seed(0)
    network = task.build_network().train()
    (block,) = (module for module in network.modules() if isinstance(module, MixerResidual))
    assert isinstance(block.mixer, TokenMixer)
    assert (block.mixer.card.name, block.mixer.rank) == (name, rank)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    for step in range(2):  # the first step opens the gain behind the mechanism, through which the second one trains it
        optimizer.zero_grad()
        loss = task.loss_step(network, batch)["loss"]
        assert loss.isfinite()
        loss.backward()
        trained = list(block.mixer.parameters()) if step else [block.gain]
        gradients = [parameter.grad for parameter in trained]
        assert all(one is not None and one.isfinite().all() for one in gradients)
        assert not gradients or any(one.abs().max() > 0 for one in gradients)
        optimizer.step()


@pytest.mark.parametrize("name", OTHERS)
def test_a_mechanism_of_another_kind_is_refused_with_those_that_serve(
    name: str, workflows: dict[int, tuple[Path, list[str]]]
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        task_of(workflows[3], f"model.attention.name={name}")
    told = str(refused.value)
    assert name in told
    assert all(f"{one}" in told for one in SERVING[3])


def test_a_mechanism_that_does_not_serve_the_axes_is_refused_before_anything_is_read(
    workflows: dict[int, tuple[Path, list[str]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    every = dict(cards())
    every["window"] = replace(every["window"], ranks=frozenset({1, 2}))
    monkeypatch.setattr(attention_settings, "cards", lambda: every)
    with pytest.raises(
        ConfigurationError, match="window does not serve grids of 3 axes; use one of: none, abc, "
    ) as told:
        task_of(workflows[3], "model.attention.name=window")
    assert ", window," not in str(told.value)
    task_of(workflows[2], "model.attention.name=window")
