"""Canonical orientation is exact both ways."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from domains.medical.scans.orientation import to_canonical
from domains.medical.scans.scan import Scan, SourceGeometry

ORIENTATIONS = [
    pytest.param(axes, flips, id=f"axes {axes} flips {flips}")
    for axes in permutations(range(3))
    for flips in product((1, -1), repeat=3)
]


def _affine(axes: tuple[int, ...], flips: tuple[int, ...]) -> np.ndarray:
    affine = np.zeros((4, 4))
    for column, (axis, flip) in enumerate(zip(axes, flips, strict=True)):
        affine[axis, column] = flip * (0.5 + column)
    affine[:, 3] = (3.0, -7.0, 11.0, 1.0)
    return affine


@pytest.mark.parametrize(("axes", "flips"), ORIENTATIONS)
def test_every_orientation_becomes_ras_and_returns(axes: tuple[int, ...], flips: tuple[int, ...]) -> None:
    array = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)  # (C, X, Y, Z)
    affine = _affine(axes, flips)
    turned, turned_affine, turn = to_canonical(array, affine)

    assert Scan(turned, turned_affine, SourceGeometry("nifti", turned.shape[1:])).orientation == ("R", "A", "S")
    assert np.array_equal(turn.inverse(turned), array)
    assert np.allclose(turn.spacing((0.5, 1.5, 2.5)), np.linalg.norm(turned_affine[:3, :3], axis=0))
    # The oracle: each voxel is still where it was in the patient.
    for index in ((0, 0, 0), (2, 1, 3), (1, 3, 4)):
        place = affine @ (*index, 1)
        new = np.rint(np.linalg.inv(turned_affine) @ place).astype(int)[:3]
        assert np.array_equal(turned[(slice(None), *new)], array[(slice(None), *index)])


def test_oblique_affine_goes_to_the_nearest_axes(volume: np.ndarray, affine: np.ndarray) -> None:
    turned, turned_affine, turn = to_canonical(volume[None], affine)
    assert turn.flips == (True, False, False)
    assert np.allclose(turned_affine @ (5, 0, 0, 1), affine @ (0, 0, 0, 1))
    assert np.shares_memory(turned, volume)


def test_pictures_are_left_alone() -> None:
    picture = np.arange(12).reshape(1, 3, 4)
    turned, affine, turn = to_canonical(picture, np.eye(4))
    assert np.array_equal(turned, picture)
    assert np.array_equal(affine, np.eye(4))
    assert np.array_equal(turn.inverse(turned), picture)
