"""Slab-wise inference gives what holding the whole volume gives."""

import itertools

import pytest
import torch
from monai.inferers import sliding_window_inference
from torch.nn import functional

from domains.medical.segmentation.sliding import gaussian_weights, segment_volume, window_starts


class Network(torch.nn.Module):
    """A fixed convolution: where a window starts and what surrounds a voxel both matter."""

    def __init__(self, channels: int, classes: int, rank: int) -> None:
        super().__init__()
        torch.manual_seed(3)
        kind = torch.nn.Conv3d if rank == 3 else torch.nn.Conv2d
        self.layer = kind(channels, classes, 5, padding=2).eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 4 * self.layer(x)


def whole(network, image, patch, overlap, mirror_axes=()):
    """Mean logits of the whole volume, held at once."""
    missing = [max(p - n, 0) for p, n in zip(patch, image.shape[1:], strict=True)]
    padding = [part for n in reversed(missing) for part in (n // 2, n - n // 2)]
    padded = functional.pad(image, padding)
    weights = gaussian_weights(patch)
    size = padded.shape[1:]
    total, norm = 0, torch.zeros(size)
    with torch.inference_mode():
        for start in itertools.product(*(window_starts(n, p, overlap) for n, p in zip(size, patch, strict=True))):
            box = tuple(slice(a, a + p) for a, p in zip(start, patch, strict=True))
            cube = padded[(slice(None), *box)][None]
            scores = []
            for count in range(len(mirror_axes) + 1):
                for axes in itertools.combinations(mirror_axes, count):
                    turned = [axis + 2 for axis in axes]
                    scores.append(network(cube.flip(turned)).flip(turned))
            mean = torch.stack(scores).mean(0)[0]
            full = torch.zeros(mean.shape[0], *size)
            full[(slice(None), *box)] = mean * weights
            total = total + full
            norm[box] += weights
    logits = total / norm
    return logits[(slice(None), *(slice(n // 2, n // 2 + m) for n, m in zip(missing, image.shape[1:], strict=True)))]


def resampled(probabilities, shape):
    mode = "trilinear" if len(shape) == 3 else "bilinear"
    return functional.interpolate(probabilities[None], shape, mode=mode, align_corners=False)[0]


GEOMETRIES = [
    pytest.param((20, 17, 33), (8, 8, 8), None, 1, (), id="sweep along the last axis"),
    pytest.param((41, 9, 12), (8, 9, 6), None, 3, (), id="batches straddle steps"),
    pytest.param((5, 20, 7), (8, 8, 8), None, 2, (), id="shorter than the patch on two axes"),
    pytest.param((5, 6, 7), (8, 8, 8), (9, 3, 13), 1, (0, 2), id="one padded window, mirrored, other grid"),
    pytest.param((20, 17, 33), (8, 8, 8), (40, 17, 70), 4, (1,), id="finer output"),
    pytest.param((20, 17, 33), (8, 8, 8), (7, 30, 5), 2, (), id="coarser output"),
    pytest.param((64, 8, 8), (8, 8, 8), (2, 8, 8), 1, (), id="output planes far apart"),
    pytest.param((30, 25), (8, 12), (41, 25), 5, (0, 1), id="an image"),
    pytest.param((1, 1), (8, 8), None, 1, (), id="one pixel"),
]


@pytest.mark.parametrize(("shape", "patch", "target", "batch_size", "mirror"), GEOMETRIES)
@pytest.mark.parametrize("overlap", [0.5, 0.25, 0.0])
def test_labels_and_probabilities_are_those_of_the_whole_volume(shape, patch, target, batch_size, mirror, overlap):
    generator = torch.Generator().manual_seed(0)
    image = torch.randn(2, *shape, generator=generator)
    network = Network(2, 4, len(shape))
    logits = whole(network, image, patch, overlap, mirror)
    expected = logits.softmax(1 - 1)
    if target is not None:
        expected = resampled(expected, target)
    options = {
        "patch": patch,
        "classes": 4,
        "output_shape": target,
        "overlap": overlap,
        "batch_size": batch_size,
        "mirror_axes": mirror,
    }
    labels, probabilities = segment_volume(network, image, keep_probabilities=True, **options)
    torch.testing.assert_close(probabilities.float(), expected, atol=2e-3, rtol=0)
    assert labels.dtype == torch.uint8
    assert labels.shape == expected.shape[1:]
    only_labels = segment_volume(network, image, **options)
    top = expected.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-4
    assert torch.equal(labels[clear], expected.argmax(0)[clear].to(torch.uint8))
    assert torch.equal(only_labels[clear], expected.argmax(0)[clear].to(torch.uint8))
    assert clear.float().mean() > 0.99


@pytest.mark.parametrize("shape", [(20, 17, 33), (6, 21, 9)])
@pytest.mark.parametrize("overlap", [0.5, 0.25])
def test_labels_are_those_of_monai_on_the_same_windows(shape, overlap):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(1))
    network, patch = Network(1, 3, 3), (8, 12, 10)
    with torch.inference_mode():
        reference = sliding_window_inference(
            image[None], patch, 2, network, overlap=overlap, mode="gaussian", sigma_scale=0.125
        )[0]
    labels = segment_volume(network, image, patch=patch, classes=3, overlap=overlap)
    top = reference.topk(2, dim=0).values
    clear = top[0] - top[1] > 1e-4
    assert torch.equal(labels[clear], reference.argmax(0)[clear].to(torch.uint8))
    assert clear.float().mean() > 0.99


def test_an_affine_between_the_grids_is_followed():
    image = torch.zeros(1, 10, 4, 4)
    image[0, 6:] = 1

    def threshold(x: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.5 - x, x - 0.5], dim=1) * 20

    labels = segment_volume(
        threshold,
        image,
        patch=(4, 4, 4),
        classes=2,
        output_shape=(3, 4, 4),
        output_scale=(1.0, 1.0, 1.0),
        output_offset=(5.0, 0.0, 0.0),
    )
    assert labels[:, 0, 0].tolist() == [0, 1, 1]


def test_only_a_slab_of_scores_is_held():
    held: list[int] = []
    real = torch.zeros

    def spy(*sizes, **options):
        made = real(*sizes, **options)
        held.append(made.numel())
        return made

    image = torch.randn(1, 160, 8, 8)
    with pytest.MonkeyPatch.context() as patcher:
        patcher.setattr(torch, "zeros", spy)
        segment_volume(Network(1, 5, 3), image, patch=(8, 8, 8), classes=5)
    assert max(held) < 5 * 160 * 8 * 8 / 10


def test_more_than_256_classes_take_a_wider_type():
    def network(x: torch.Tensor) -> torch.Tensor:
        return functional.one_hot(torch.full(x.shape[:1] + x.shape[2:], 299), 300).movedim(-1, 1).float()

    labels = segment_volume(network, torch.randn(1, 5, 5), patch=(4, 4), classes=300)
    assert labels.dtype == torch.uint16
    assert labels.numpy().min() == 299


def test_equal_scores_are_decided_as_by_monai():
    image = torch.randn(1, 60, 9, 11, generator=torch.Generator().manual_seed(2))
    layer = Network(1, 4, 3)

    def coarse(x: torch.Tensor) -> torch.Tensor:
        return layer(x).round()

    with torch.inference_mode():
        reference = sliding_window_inference(image[None], (8, 8, 8), 2, coarse, overlap=0.5, mode="gaussian")[0]
    top = reference.topk(2, dim=0).values
    assert (top[0] == top[1]).float().mean() > 0.01
    labels = segment_volume(coarse, image, patch=(8, 8, 8), classes=4, batch_size=2)
    assert torch.equal(labels, reference.argmax(0).to(torch.uint8))


@pytest.mark.parametrize("shape", [(40, 12, 10), (12, 10, 40)])
def test_an_output_of_every_other_voxel_is_copied(shape):
    image = torch.randn(1, *shape, generator=torch.Generator().manual_seed(4))
    options = {"patch": (8, 8, 8), "classes": 3}
    whole_labels = segment_volume(Network(1, 3, 3), image, **options)
    half = tuple(length // 2 for length in shape)
    labels = segment_volume(
        Network(1, 3, 3), image, output_shape=half, output_scale=(2.0,) * 3, output_offset=(1.0,) * 3, **options
    )
    assert torch.equal(labels, whole_labels[1::2, 1::2, 1::2])
