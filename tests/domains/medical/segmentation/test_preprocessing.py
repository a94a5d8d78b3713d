"""Preprocessing: geometry comes back exactly, intensities do not depend on the scanner's scale."""

import itertools
import json

import numpy as np
import pytest
import torch
from torch.nn import functional

from domains.medical.scans.scan import Scan, SourceGeometry
from domains.medical.segmentation.preprocess import Preprocessing, foreground_box
from domains.medical.segmentation.resampling import axis_weights, resample, resample_labels

RNG = np.random.default_rng(0)


def scan_of(array: np.ndarray, affine: np.ndarray | None = None) -> Scan:
    affine = np.eye(4) if affine is None else affine
    kind = "picture" if array.ndim == 3 else "nifti"
    return Scan(array.astype(np.float32), affine, SourceGeometry(kind, array.shape[1:]))


def affine_of(axes: tuple[int, ...], signs: tuple[int, ...], spacing: tuple[float, ...]) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = 0
    for axis, (world, sign, step) in enumerate(zip(axes, signs, spacing, strict=True)):
        affine[world, axis] = sign * step
    affine[:3, 3] = (-10, 20, 5)
    return affine


@pytest.mark.parametrize("axes", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_orientation_becomes_canonical_and_comes_back(axes, signs):
    array = RNG.normal(size=(1, 6, 5, 4))
    labels = RNG.integers(0, 3, (6, 5, 4)).astype(np.uint8)
    scan = scan_of(array, affine_of(axes, signs, (1.0, 2.0, 3.0)))
    preprocessing = Preprocessing(rank=3, channels=1)
    prepared = preprocessing.prepare(scan)
    canonical = preprocessing.prepare_labels(labels, prepared.layout)
    assert np.array_equal(prepared.layout.restored(canonical.numpy()), labels)
    places = np.argwhere(np.ones(array.shape[1:])) @ scan.affine[:3, :3].T + scan.affine[:3, 3]
    order = np.lexsort((places[:, 2], places[:, 1], places[:, 0]))
    normalised = prepared.image.flatten().double().numpy()
    expected = array.ravel()[order]
    assert np.corrcoef(normalised, expected)[0, 1] > 0.99


def test_intensities_do_not_depend_on_the_scale_of_the_scanner():
    array = RNG.gamma(2.0, 1.0, (1, 12, 12, 12))
    preprocessing = Preprocessing(rank=3, channels=1, intensity={"name": "zscore", "clip": (0.0, 0.999)})
    plain = preprocessing.prepare(scan_of(array)).image
    huge = preprocessing.prepare(scan_of(array * 3e5 + 7)).image
    torch.testing.assert_close(plain, huge, atol=1e-3, rtol=0)
    assert abs(float(plain.mean())) < 0.05
    assert abs(float(plain.std()) - 1) < 0.05


def test_one_bright_voxel_does_not_darken_the_rest():
    array = RNG.normal(100, 10, (1, 20, 20, 20))
    spoilt = array.copy()
    spoilt[0, 0, 0, 0] = 1.7e6
    preprocessing = Preprocessing(rank=3, channels=1, intensity={"name": "zscore", "clip": (0.0, 0.999)})
    clean, dirty = (preprocessing.prepare(scan_of(a)).image.flatten()[1:] for a in (array, spoilt))
    torch.testing.assert_close(clean, dirty, atol=0.02, rtol=0.02)


def test_an_empty_margin_does_not_count():
    array = RNG.normal(100, 10, (1, 10, 10, 10))
    masked = np.zeros((1, 20, 20, 20))
    masked[:, 5:15, 5:15, 5:15] = array
    image = Preprocessing(rank=3, channels=1).prepare(scan_of(masked)).image
    inside = image[:, 5:15, 5:15, 5:15]
    assert abs(float(inside.mean())) < 0.01
    assert abs(float(inside.std()) - 1) < 0.01


def test_ct_and_unit_intensities_follow_what_was_learnt():
    array = np.linspace(-2000, 3000, 64).reshape(1, 4, 4, 4)
    ct = {"name": "ct", "window": [-100, 300], "mean": 50.0, "deviation": 25.0}
    image = Preprocessing(rank=3, channels=1, intensity=ct).prepare(scan_of(array)).image
    assert float(image.min()) == -6.0
    assert float(image.max()) == 10.0
    unit = Preprocessing(rank=2, channels=3, intensity={"name": "unit", "maximum": 255.0})
    picture = unit.prepare(scan_of(RNG.integers(0, 256, (3, 6, 5)).astype(float))).image
    assert 0 <= float(picture.min()) <= float(picture.max()) <= 1


def test_the_crop_is_undone():
    array = np.zeros((1, 10, 9, 8))
    array[0, 2:6, 3:7, 1:5] = RNG.normal(50, 5, (4, 4, 4))
    scan = scan_of(array, affine_of((1, 0, 2), (-1, 1, -1), (1, 1, 1)))
    preprocessing = Preprocessing(rank=3, channels=1, crop_foreground=True)
    prepared = preprocessing.prepare(scan)
    assert prepared.image.shape == (1, 4, 4, 4)
    labels = (array[0] > 0).astype(np.uint8)
    inside = preprocessing.prepare_labels(labels, prepared.layout)
    assert np.array_equal(prepared.layout.restored(inside.numpy()), labels)


def test_a_box_around_nothing_is_the_whole():
    assert foreground_box(np.zeros((1, 3, 4))) == ((0, 3), (0, 4))


def test_resampling_keeps_extents_and_structures():
    scan = scan_of(RNG.normal(size=(1, 20, 16, 6)), np.diag([1.0, 1.0, 4.0, 1.0]))
    preprocessing = Preprocessing(rank=3, channels=1, spacing=(2.0, 2.0, 2.0))
    prepared = preprocessing.prepare(scan)
    assert prepared.image.shape == (1, 10, 8, 12)
    labels = np.zeros((20, 16, 6), np.uint8)
    labels[4:12, 4:12, 1:4] = 2
    coarse = preprocessing.prepare_labels(labels, prepared.layout)
    volume, expected = float((coarse == 2).sum()) * 8, float((labels == 2).sum()) * 4
    assert abs(volume - expected) / expected < 0.15
    assert set(coarse.unique().tolist()) == {0, 2}


@pytest.mark.parametrize("shape", [(9, 14, 5), (8, 7, 6)])
def test_upsampling_is_linear_interpolation(shape):
    image = torch.randn(2, 5, 7, 4, generator=torch.Generator().manual_seed(0))
    expected = functional.interpolate(image[None], shape, mode="trilinear", align_corners=False)[0]
    torch.testing.assert_close(resample(image, shape), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("size", "new"), [(10, 3), (3, 10), (7, 7), (5, 1), (1, 5)])
def test_weights_of_an_axis_sum_to_one_and_lose_nothing(size, new):
    weights = axis_weights(size, new)
    torch.testing.assert_close(weights.sum(1), torch.ones(new))
    assert (weights.sum(0) > 0).all()


def test_labels_survive_a_finer_grid_and_back():
    labels = torch.zeros(6, 6, 6, dtype=torch.uint8)
    labels[2:5, 1:4, 2:4] = 3
    assert torch.equal(resample_labels(resample_labels(labels, (12, 12, 12)), (6, 6, 6)), labels)


def test_a_description_gives_the_same_preprocessing():
    made = Preprocessing(rank=3, channels=2, spacing=(1.0, 2.0, 3.0), intensity={"name": "zscore", "clip": [0.0, 0.99]})
    again = Preprocessing.from_description(json.loads(json.dumps(made.describe())))
    assert again == made
