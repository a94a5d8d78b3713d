"""Bags from every kind of file, and what is said of files that hold none."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from domains.medical.bags.arrays import array_cases
from domains.medical.bags.discovery import discover
from domains.medical.bags.plan import BagPlan, TrainingFacts, check_origin
from domains.medical.bags.reading import BagReader
from domains.medical.bags.settings import FeatureSettings, TargetSettings
from domains.medical.bags.target import Target
from domains.medical.slides.bagfiles import Bag
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError
from pipelines.task import Item

VALUES = np.arange(12, dtype=np.float32).reshape(4, 3)
CORNERS = np.array([[0, 0], [8, 0], [0, 8], [8, 8]])


def write(path: Path) -> Path:
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file["features"], file["coords"] = VALUES, CORNERS
    elif path.suffix == ".pt":
        torch.save({"features": torch.from_numpy(VALUES), "coords": torch.from_numpy(CORNERS)}, path)
    elif path.suffix == ".npz":
        np.savez(path, features=VALUES, coords=CORNERS)
    else:
        save_file({"features": VALUES, "coords": CORNERS}, path)
    return path


@pytest.mark.parametrize("suffix", [".h5", ".pt", ".npz", ".safetensors"])
def test_a_bag_is_the_same_from_every_kind_of_file(tmp_path: Path, suffix: str) -> None:
    item = Item("one", (write(tmp_path / f"one{suffix}"),), "bag")
    reader = BagReader(FeatureSettings())
    bag = reader.read(item)
    np.testing.assert_array_equal(bag.features, VALUES)
    np.testing.assert_array_equal(bag.coords, CORNERS)
    assert reader.look_at(item) == {"instances": 4, "features": 3}
    again = pickle.loads(pickle.dumps(reader)).read(item)
    np.testing.assert_array_equal(again.features, VALUES)


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    path = write(tmp_path / "one.npz")
    reader = BagReader(FeatureSettings())
    first = reader.read(Item("one", (path,), "bag"))
    assert reader.read(Item("one", (path,), "bag")) is first
    np.savez(path, features=VALUES[:2])
    assert len(reader.read(Item("one", (path,), "bag"))) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"other": VALUES}, "no array 'features'", id="another name"),
        pytest.param({"features": VALUES[:0]}, "empty bag", id="no instance"),
        pytest.param({"features": np.full_like(VALUES, np.nan)}, "not finite", id="not a number"),
        pytest.param({"features": VALUES.ravel()}, "no array 'features'", id="one axis"),
    ],
)
def test_a_file_without_a_bag_says_why(tmp_path: Path, content: dict, message: str) -> None:
    np.savez(tmp_path / "one.npz", **content)
    with pytest.raises(CaseError, match=message):
        BagReader(FeatureSettings()).read(Item("one", (tmp_path / "one.npz",), "bag"))


def test_files_that_are_missing_or_damaged_say_so(tmp_path: Path) -> None:
    reader = BagReader(FeatureSettings())
    with pytest.raises(CaseError, match="file not found"):
        reader.read(Item("one", (tmp_path / "none.h5",), "bag"))
    (tmp_path / "bad.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CaseError, match="not a readable file"):
        reader.read(Item("one", (tmp_path / "bad.safetensors",), "bag"))


def test_arrays_are_a_case_for_each_bag(arrays: Path) -> None:
    table = array_cases(arrays)
    assert len(table) == 24
    assert table[0].case_id == "bag-01"
    assert table[0].labels == {"bag": "1", "label": 0}
    reader = BagReader(FeatureSettings())
    with np.load(arrays) as held:
        for case in (table[0], table[23]):
            bag = reader.read(Item(case.case_id, (arrays,), "arrays", {"bag": case.labels["bag"]}))
            np.testing.assert_array_equal(bag.features, held["X"][held["bag_id"] == int(case.labels["bag"])])
    np.savez(arrays.with_name("bare.npz"), X=VALUES)
    with pytest.raises(DataError, match=r"has no array bag_id, bag_ids; it has X"):
        array_cases(arrays.with_name("bare.npz"))


def test_a_picture_becomes_tiles_and_their_features_are_kept(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (70, 100, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "core.png")
    settings = FeatureSettings(tile=48, folder=tmp_path / "kept")
    item = Item("core", (tmp_path / "core.png",), "image")
    bag = BagReader(settings).read(item)
    assert bag.features.shape == (2 * 3, 1280)
    assert bag.attributes["encoder"]["name"] == "efficientnet_lite0"
    (kept,) = (tmp_path / "kept").glob("*/*.h5")
    assert "core" not in str(kept.relative_to(tmp_path)), "kept by content, not by name"
    before = kept.stat().st_mtime_ns
    np.testing.assert_array_equal(BagReader(settings).read(item).features, bag.features)
    assert kept.stat().st_mtime_ns == before
    with pytest.raises(CaseError, match="smaller than one tile of 96"):
        BagReader(FeatureSettings(tile=96)).look_at(item)


def test_inputs_are_found_by_what_they_are(tmp_path: Path, arrays: Path) -> None:
    folder = tmp_path / "in"
    (folder / "site a").mkdir(parents=True)
    for name in ("a.h5", "site a/b.pt", "c.npz"):
        write(folder / name)
    Image.new("RGB", (40, 40)).save(folder / "d.png")
    (folder / "notes.txt").write_text("no bag")
    names = [item.item_id for item in discover([folder], pictures=False)]
    assert names == ["a", "c", "site_a_b"]
    assert [item.item_id for item in discover([folder], pictures=True)] == ["a", "c", "d", "site_a_b"]
    many = discover([arrays], pictures=False)
    assert len(many) == 24
    assert {item.kind for item in many} == {"arrays"}
    (text,) = discover([folder / "notes.txt"], pictures=False)
    assert "not a bag: .txt" in text.problem
    (none,) = discover([folder / "none.h5"], pictures=False)
    assert none.problem == "file not found"


def test_facts_of_a_training_part_are_those_of_all_instances() -> None:
    generator = np.random.default_rng(0)
    bags = [
        Bag((generator.normal(size=(n, 5)) * [1, 2, 3, 0, 1e3] + [0, 9, 0, 7, 1e5]).astype(np.float32))
        for n in (3, 50, 1, 17)
    ]
    facts = TrainingFacts(Target(("no", "yes"), column="label", values=("0", "1")))
    for number, bag in enumerate(bags):
        facts.add(f"c{number}", bag, np.array([number % 2 == 0, number % 2 == 1]))
    everything = np.concatenate([bag.features for bag in bags]).astype(np.float64)
    mean, deviation = facts.scale()
    np.testing.assert_allclose(mean, everything.mean(0), rtol=1e-6, atol=1e-7)
    expected = everything.std(0)
    expected[3] = 1  # never changes
    np.testing.assert_allclose(deviation, expected, rtol=1e-4)
    plan = facts.plan()
    assert (plan.features, plan.class_counts, plan.training_bags) == (5, (2, 2), 4)
    assert BagPlan.from_description(plan.describe()) == plan
    with pytest.raises(DataError, match="has 4 features, others have 5"):
        facts.add("odd", Bag(VALUES.reshape(3, 4)), np.array([True, False]))


def test_a_class_without_a_training_bag_is_refused() -> None:
    facts = TrainingFacts(Target(("no", "yes"), column="label", values=("0", "1")))
    facts.add("c", Bag(VALUES), np.array([True, False]))
    with pytest.raises(DataError, match="no training bag is yes"):
        facts.plan()


def test_features_of_another_encoder_are_refused() -> None:
    plan = BagPlan(Target(("no", "yes")), 3, {"name": "uni", "weights": "aa"})
    check_origin("one", Bag(VALUES), plan)  # it does not say where it is from
    check_origin("one", Bag(VALUES, None, {"encoder": {"name": "uni", "weights": "aa"}}), plan)
    with pytest.raises(CaseError, match="features are of uni bb; the model was trained on uni aa"):
        check_origin("one", Bag(VALUES, None, {"encoder": {"name": "uni", "weights": "bb"}}), plan)
    with pytest.raises(CaseError, match="2 features; the model was trained on 3"):
        check_origin("one", Bag(VALUES[:, :2]), plan)


def cases(**columns: list) -> list[Case]:
    rows = zip(*columns.values(), strict=True)
    return [Case(f"c{n}", f"c{n}", {}, dict(zip(columns, row, strict=True))) for n, row in enumerate(rows)]


def test_classes_are_what_the_column_says() -> None:
    found = Target.find(TargetSettings(label="grade"), cases(grade=[2, 10, 1, 2]))
    assert found.names == ("1", "2", "10")
    named = Target.find(TargetSettings(label="grade", classes={"low": 1, "high": 2}), cases(grade=[2, 10, 1, 2]))
    assert named.of(cases(grade=[2])[0]).tolist() == [False, True]
    with pytest.raises(CaseError, match="its grade is 10"):
        named.of(cases(grade=[10])[0])
    several = Target.find(TargetSettings(label=("red", "round")), cases(red=[0, 1], round=[1, 1]))
    assert several.of(cases(red=[1], round=[0])[0]).tolist() == [True, False]
    with pytest.raises(CaseError, match="its red is 3"):
        several.of(cases(red=[3], round=[0])[0])
    with pytest.raises(DataError, match="no label 'stage'; they have grade"):
        Target.find(TargetSettings(label="stage"), cases(grade=[1, 2]))
    with pytest.raises(DataError, match="one value, 1: there is nothing to tell apart"):
        Target.find(TargetSettings(label="grade"), cases(grade=[1, 1]))
