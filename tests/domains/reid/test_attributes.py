"""One embedding for each attribute: judged, trained and served."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import load_file

from domains.reid.attributes.drawing import draw_attribute
from domains.reid.attributes.judgement import METRICS, judge_attribute
from domains.reid.attributes.settings import AttributeWorkflow
from domains.reid.attributes.task import AttributeTask
from domains.reid.index.pictures import BORDERS
from pipelines.cases import Case
from pipelines.errors import DataError
from pipelines.task import SampleKey

VIT = {"name": "vit", "width": None, "dim": 16, "depth": 2, "heads": 2, "patch": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Four things by two cameras: red or blue tells the kind, green the camera."""
    root = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(0)
    for number, kind in enumerate(("red", "red", "blue", "blue")):
        for camera in (1, 2):
            pixels = np.full((16, 16, 3), 60) + rng.integers(-10, 10, (16, 16, 3))
            pixels[:, :, 0 if kind == "red" else 2] += 120
            pixels[:, :, 1] += 100 * (camera - 1)
            Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(root / f"{kind}_{number}_c{camera}.png")
    return root


def task_of(folder: Path, **changes) -> AttributeTask:
    given = {
        "task": "reid/attributes",
        "name": "test",
        "data": {
            "format": "identities",
            "root": str(folder),
            "pattern": "{kind}_{number}_c{camera}.png",
            "identity": "{kind}_{number}",
        },
        "input": {"size": [16, 16]},
        "model": VIT,
        "condition": {"attributes": ["kind", "camera"]},
        "train": {"batch_size": 8},
        "augment": {"enabled": False},
        **changes,
    }
    return AttributeTask(AttributeWorkflow.model_validate(given))


def case(name: str, group: str, **labels) -> Case:
    return Case(name, group, {"image": Path(name)}, labels)


def test_pictures_of_the_own_group_are_removed_and_the_unknown_neither_ask_nor_are_searched():
    cases = [
        case("a1", "a", type="car"),
        case("a2", "a", type="car"),
        case("b", "b", type="car"),
        case("c", "c", type="bus"),
        case("d", "d"),
    ]
    angles = {"a1": 0.0, "a2": 0.1, "b": 0.9, "c": 0.5, "d": 0.2}
    observed = {
        name: {"embedding": np.array([[1.0, 0.0], [np.cos(angle), np.sin(angle)]])} for name, angle in angles.items()
    }
    rows = {(row.case_id, row.metric): row for row in judge_attribute(cases, observed, "type", 1)}
    # a1 sees c, then b: its match is at rank 2. b sees c, a2, a1: matches at ranks 2 and 3.
    assert rows["a1", "map"].value == pytest.approx(1 / 2)
    assert rows["b", "map"].value == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert rows["a1", "share"].value == pytest.approx(1 / 2)
    assert rows["b", "share"].value == pytest.approx(2 / 3)
    assert rows["b", "cmc_1"].value == 0
    assert np.isnan(rows["c", "map"].value)
    assert rows["c", "map"].note == "nobody to find"
    assert rows["d", "map"].note == "no type is known"
    assert len(rows) == len(cases) * len(METRICS)


def test_a_picture_without_an_embedding_counts_as_never_found():
    cases = [case("a", "a", type="car"), case("b", "b", type="car"), case("c", "c", type="bus")]
    observed = {name: {"embedding": np.array([[1.0, at]])} for at, name in enumerate("ac")}
    rows = {(row.case_id, row.metric): row for row in judge_attribute(cases, observed, "type", 0)}
    assert rows["b", "map"].value == 0
    assert rows["b", "map"].note == "failed: no embedding"


def test_each_attribute_is_learned_and_served_under_its_name(folder, tmp_path):
    task = task_of(folder)
    cases = task.read_cases().cases
    task.fit(cases)
    data = task.training_data(cases, seed=0)
    batch = data.collate([data[SampleKey(0, index)] for index in range(8)])
    example = task.example_batch(8)
    assert {name: tuple(value.shape) for name, value in batch.items() if name != "case_id"} == {
        name: tuple(value.shape) for name, value in example.items() if name != "case_id"
    }
    torch.manual_seed(0)
    network = task.build_network().train()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-2)
    first = None
    for _ in range(30):
        losses = task.loss_step(network, batch)
        optimizer.zero_grad()
        losses["loss"].backward()
        optimizer.step()
        first = first or losses["loss"].item()
    assert set(losses) == {"loss", "kind_triplet", "camera_triplet"}
    assert losses["loss"].item() < 0.3 * first
    again = AttributeTask.from_description(task.describe())
    copy = again.build_network()
    copy.load_state_dict(network.state_dict())
    predictor = again.predictor(copy, device=torch.device("cpu"))
    item = task.item(cases[0])
    result = predictor.infer(predictor.read(item))
    assert result.embedding.shape == (2, 16)
    written = load_file(predictor.write(item, result, tmp_path).files[0])
    assert set(written) == {"kind", "camera"}
    np.testing.assert_array_equal(written["camera"], result.embedding[1])
    observed = {one.case_id: task.observe(one, predictor.infer(predictor.read(task.item(one)))) for one in cases}
    found = [row for row in task.judge_set(cases, observed) if row.metric == "map"]
    assert {row.class_name for row in found} == {"kind", "camera"}
    assert np.mean([row.value for row in found]) > 0.95


def test_what_cannot_be_told_apart_is_refused(folder):
    task = task_of(folder, condition={"attributes": ["colour"]})
    with pytest.raises(DataError, match="'colour' has 0 values on 0 of 8 training pictures") as caught:
        task.fit(task.read_cases().cases)
    assert "kind" in str(caught.value.hint)
    for changes, message in (
        ({"model": {**VIT, "dcal": {}}}, "needs a plain transformer"),
        ({"loss": {"triplet": 2.0}}, "loss has no meaning here"),
        ({"condition": {"attributes": ["kind", "kind"]}}, "names one twice"),
    ):
        with pytest.raises(ValueError, match=message):
            task_of(folder, **changes)


def test_the_nearest_by_an_attribute_are_drawn(folder):
    from domains.reid.images import ImageInput

    cases = task_of(folder).read_cases().cases
    near = {"red": [1.0, 0.0], "blue": [0.0, 1.0]}
    observed = {
        case.case_id: {"embedding": np.array([near[case.labels["kind"]], [1.0, 0.0]], dtype=np.float32)}
        for case in cases
    }
    (figure,) = draw_attribute(cases, observed, "kind", 0, ImageInput((16, 16)))
    assert figure.caption.startswith("Nearest by kind")
    # Four rows; each of eight pictures asks for the six of other things.
    assert figure.image.shape[0] > 4 * 96
    right, wrong = (int((figure.image == BORDERS[status]).all(-1).sum()) for status in ("right", "wrong"))
    # Two of the six show the same kind.
    assert wrong == 2 * right > 0
    assert draw_attribute(cases, {}, "kind", 0, ImageInput((16, 16))) == []
    alone = [case for case in cases if case.group == cases[0].group]
    assert draw_attribute(alone, observed, "kind", 0, ImageInput((16, 16))) == []
