"""Previews show the right side at the right place, quickly; volumes are in millilitres."""

from __future__ import annotations

import time

import numpy as np
import pytest

from domains.medical.scans.preview import class_colour, preview
from domains.medical.scans.scan import Scan, SourceGeometry
from domains.medical.scans.volumes import volumes_ml


def _scan(array: np.ndarray, affine: np.ndarray, kind: str = "nifti") -> Scan:
    return Scan(array.astype(np.float32), affine, SourceGeometry(kind, array.shape[1:]))  # type: ignore[arg-type]


def _where(picture: np.ndarray, number: int) -> np.ndarray:
    """Mean row and column of a label's colour, legend left out."""
    near = np.abs(picture[:-34].astype(int) - class_colour(number)).sum(axis=-1) < 12
    assert near.any()
    return np.argwhere(near).mean(axis=0)


@pytest.mark.parametrize("flip", [1, -1], ids=["RAS", "LAS"])
def test_the_patients_right_is_on_the_left_and_the_front_is_up(flip: int) -> None:
    array = np.random.default_rng(0).normal(size=(1, 40, 40, 40))
    affine = np.diag([flip, 1.0, 1.0, 1.0])
    labels = np.zeros((40, 40, 40), np.uint8)
    right, left = ((30, 38), (2, 10)) if flip == 1 else ((2, 10), (30, 38))
    labels[slice(*right), 28:36, 18:24] = 1  # right front
    labels[slice(*left), 4:12, 18:24] = 2  # left back
    picture = preview(_scan(array, affine), None, ["right", "left"], reference=labels)
    axial = picture[:, : picture.shape[1] // 3]
    (row_right, column_right), (row_left, column_left) = _where(axial, 1), _where(axial, 2)
    assert column_right < column_left
    assert row_right < row_left


@pytest.mark.parametrize(
    "shape",
    [
        (1, 1, 30, 30),
        (1, 30, 30, 1),
        (1, 200, 3, 7),
        (1, 1, 1, 1),
        (3, 50, 40),
        (1, 50, 40),
        (1, 5, 1000),
        (2, 20, 20, 20),
    ],
)
def test_any_shape_gives_a_picture(shape: tuple[int, ...]) -> None:
    scan = _scan(np.random.default_rng(0).normal(size=shape), np.eye(4), "picture" if len(shape) == 3 else "nifti")
    labels = np.ones(scan.shape, np.uint8)
    for given in (None, labels, labels * 0):
        picture = preview(scan, given, ["a" * 90, "b"], reference=given, title="a title")
        assert picture.dtype == np.uint8
        assert picture.shape[2] == 3


def test_proportions_are_those_of_the_patient() -> None:
    scan = _scan(np.random.default_rng(0).normal(size=(1, 40, 40, 10)), np.diag([1.0, 1.0, 4.0, 1.0]))
    labels = np.ones(scan.shape, np.uint8)
    picture = preview(scan, labels, ["a"])
    panels = (picture[60] > 40).any(axis=-1)
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, panels.astype(int), 0])))[::2]
    assert sorted(run for run in runs if run > 100) == [340, 340, 340]


def test_a_large_scan_is_drawn_quickly() -> None:
    labels = np.zeros((256, 256, 150), np.uint8)
    labels[50:100, 50:100, 50:100] = 3
    scan = _scan(np.random.default_rng(0).random(size=(1, 256, 256, 150), dtype=np.float32), np.diag([1, 1, 2, 1.0]))
    preview(scan, labels, ["a", "b", "c"])
    started = time.perf_counter()
    preview(scan, labels, ["a", "b", "c"])
    assert time.perf_counter() - started < 0.5


def test_volumes_in_millilitres() -> None:
    labels = np.zeros((20, 20, 40), np.uint8)
    labels[:10, :10, :10] = 1
    labels[15, 15, 15:20] = 3
    assert volumes_ml(labels, (1.0, 2.0, 0.5), ["a", "b", "c"]) == pytest.approx({"a": 1.0, "b": 0.0, "c": 0.005})
    assert volumes_ml(labels, (1.0, 2.0, 0.5), ["a", "b", "c"], voxel_volume=2.0)["a"] == pytest.approx(2.0)
