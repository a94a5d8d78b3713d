"""Bag files: what CLAM and TRIDENT users have is read, what is written is theirs too, and what is broken is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from domains.medical.slides.bagfiles import Bag, read_bag, read_bag_attributes, write_bag
from pipelines.errors import CaseError
from pipelines.fixtures import data_root

FEATURES = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
COORDS = np.arange(10).reshape(5, 2)


def test_a_bag_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = Bag(FEATURES, COORDS, {"mpp": 0.5, "encoder": {"name": "x", "size": None}, "slide": "a"})
    write_bag(tmp_path / "bag.h5", written)
    bag = read_bag("bag", tmp_path / "bag.h5")
    np.testing.assert_array_equal(bag.features, FEATURES)
    np.testing.assert_array_equal(bag.coords, COORDS)
    assert bag.attributes == written.attributes
    assert read_bag_attributes("bag", tmp_path / "bag.h5")["instances"] == 5
    with h5py.File(tmp_path / "bag.h5") as file:
        assert file["coords"].attrs["mpp"] == 0.5
    assert [path.name for path in tmp_path.iterdir()] == ["bag.h5"]


@pytest.mark.parametrize(("name", "shape"), [("features", (5, 8)), ("feats", (5, 8)), ("features", (1, 5, 8))])
def test_hdf5_of_other_tools_is_read(tmp_path: Path, name: str, shape: tuple[int, ...]) -> None:
    with h5py.File(tmp_path / "bag.h5", "w") as file:
        file[name] = FEATURES.reshape(shape).astype(np.float16)
        file["coords"] = COORDS
        file["coords"].attrs["patch_size_level0"] = 512
    bag = read_bag("bag", tmp_path / "bag.h5")
    np.testing.assert_allclose(bag.features, FEATURES, atol=2e-3)
    assert bag.features.dtype == np.float32
    assert bag.attributes["patch_size_level0"] == 512


@pytest.mark.parametrize("held", [torch.from_numpy(FEATURES), {"features": torch.from_numpy(FEATURES)}])
def test_pt_bags_are_read(tmp_path: Path, held: object) -> None:
    torch.save(held, tmp_path / "bag.pt")
    np.testing.assert_array_equal(read_bag("bag", tmp_path / "bag.pt").features, FEATURES)


class _Hostile:
    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (Path("opened"),)


def test_a_pt_file_cannot_run_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features": _Hostile()}, tmp_path / "bag.pt")
    with pytest.raises(CaseError, match="cannot be read as tensors"):
        read_bag("bag", tmp_path / "bag.pt")
    assert not (tmp_path / "opened").exists()


def _cut(path: Path) -> None:
    write_bag(path, Bag(FEATURES, COORDS))
    path.write_bytes(path.read_bytes()[:900])


def _without_features(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["coords"] = COORDS


def _not_finite(path: Path) -> None:
    write_bag(path, Bag(np.full((3, 2), np.nan, np.float32)))


def _other_length(path: Path) -> None:
    write_bag(path, Bag(FEATURES, COORDS[:2]))


@pytest.mark.parametrize(
    ("make", "told"),
    [
        pytest.param(_cut, "not a readable HDF5", id="cut off"),
        pytest.param(lambda path: path.write_bytes(b"text"), "not a readable HDF5", id="text"),
        pytest.param(_without_features, "no dataset 'features'.*coords", id="no features"),
        pytest.param(_not_finite, "3 of 3 tiles", id="NaN"),
        pytest.param(_other_length, "do not belong", id="lengths differ"),
        pytest.param(lambda path: write_bag(path, Bag(np.zeros((0, 4), np.float32))), "empty bag", id="empty"),
        pytest.param(lambda path: write_bag(path, Bag(np.zeros(4, np.float32))), r"\(N, F\)", id="one axis"),
        pytest.param(lambda path: None, "not found", id="missing"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path: Path, make: Callable[[Path], None], told: str) -> None:
    make(tmp_path / "bag.h5")
    with pytest.raises(CaseError, match=told):
        read_bag("bag", tmp_path / "bag.h5")


def test_the_public_bag_is_read() -> None:
    root = data_root()
    file = root / "wsi_samples" / "TCGA-AD-6964-01Z-00-DX1" / "features.h5" if root else None
    if file is None or not file.is_file():
        pytest.skip("wsi_samples is not here; set PULVINAR_DATA")
    bag = read_bag("TCGA-AD-6964", file)
    assert bag.features.shape == (777, 512)
    assert bag.coords is not None
    assert bag.coords.shape == (777, 2)
