"""Where patches are cut, and that one interpolation turns them rightly."""

import math

import numpy as np
import pytest
import torch

from domains.medical.segmentation.cut import Cut, choose_centre, cut_patch, draw_matrix


def volume(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, *shape, generator=generator)
    return image, torch.randint(0, 4, shape, generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("shape", "start", "size"),
    [
        pytest.param((9, 8, 7), (2, 1, 0), (4, 5, 6), id="inside"),
        pytest.param((9, 8, 7), (-3, 5, -1), (8, 8, 9), id="past every edge"),
        pytest.param((9, 8), (-2, 3), (6, 9), id="an image"),
    ],
)
def test_the_identity_matrix_is_a_plain_cut(shape, start, size):
    image, labels = volume(*shape)
    plain = cut_patch(image, labels, Cut(start, size))
    turned = cut_patch(image, labels, Cut(start, size, torch.eye(len(shape))))
    torch.testing.assert_close(turned[0], plain[0], atol=1e-4, rtol=0)
    assert torch.equal(turned[1], plain[1])
    padded = np.pad(labels.numpy(), 12)
    box = tuple(slice(a + 12, a + 12 + n) for a, n in zip(start, size, strict=True))
    assert np.array_equal(plain[1].numpy(), padded[box])


def test_a_quarter_turn_is_the_turned_array():
    image, labels = volume(9, 9, 5)
    turn = torch.tensor([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    turned_image, turned_labels = cut_patch(image, labels, Cut((0, 0, 0), (9, 9, 5), turn))
    candidates = [torch.rot90(labels, k, (0, 1)) for k in (1, -1)]
    assert sum(torch.equal(turned_labels, candidate.long()) for candidate in candidates) == 1
    expected = next(k for k in (1, -1) if torch.equal(turned_labels, torch.rot90(labels, k, (0, 1)).long()))
    torch.testing.assert_close(turned_image, torch.rot90(image, expected, (1, 2)), atol=1e-4, rtol=0)


def test_only_the_neighbourhood_of_a_patch_matters():
    image, labels = volume(40, 40, 40)
    cut = Cut((10, 12, 14), (8, 8, 8), draw_matrix(np.random.default_rng(0), (1, 1, 1), rotation=30, scale=(0.8, 1.2)))
    far = image.clone()
    far[:, :2] = far[:, -2:] = 99.0
    assert torch.equal(cut_patch(image, labels, cut)[0], cut_patch(far, labels, cut)[0])


def test_a_rotation_is_one_in_millimetres():
    spacing = np.array([1.0, 1.0, 5.0])
    matrix = draw_matrix(np.random.default_rng(3), spacing, rotation=40, scale=(1.0, 1.0)).double().numpy()
    in_mm = matrix * spacing[:, None] / spacing[None, :]
    np.testing.assert_allclose(in_mm @ in_mm.T, np.eye(3), atol=1e-6)
    assert abs(in_mm[0, 2]) > 0.05


def test_a_magnification_of_two_shows_half_of_the_extent():
    matrix = draw_matrix(np.random.default_rng(0), (1, 1), rotation=0, scale=(2.0, 2.0))
    torch.testing.assert_close(matrix, torch.eye(2) / 2)


@pytest.mark.parametrize("length", [5, 16, 40])
def test_patches_stay_inside_where_they_fit_and_hold_their_voxel(length):
    generator = np.random.default_rng(0)
    for voxel in [*range(length), None]:
        (start,) = choose_centre(generator, (length,), (16,), None if voxel is None else (voxel,))
        if length >= 16:
            assert 0 <= start <= length - 16
        else:
            assert start == math.floor((length - 16) / 2)
        if voxel is not None:
            assert start <= voxel < start + 16
