"""Cutting a training patch: where, how it is turned and scaled, and the one interpolation that does all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Cut", "choose_centre", "cut_patch", "draw_matrix"]


@dataclass(frozen=True)
class Cut:
    """A patch to be cut.

    Attributes:
        start: First voxel along each axis; may be negative, and the patch may reach past the end: outside is 0.
        size: Voxels along each axis.
        matrix: `(rank, rank)`, patch offset from its centre (voxels) → offset in the volume; none is a plain cut.
    """

    start: tuple[int, ...]
    size: tuple[int, ...]
    matrix: Tensor | None = None


def choose_centre(
    generator: np.random.Generator, shape: Sequence[int], size: Sequence[int], voxel: Sequence[int] | None
) -> tuple[int, ...]:
    """First voxel of a patch: around `voxel` where one is given, else anywhere.

    The patch stays inside the volume on axes that are long enough, and is centred on those that are not.
    """
    start = []
    for axis, (length, extent) in enumerate(zip(shape, size, strict=True)):
        low = min(0, (length - extent) // 2)
        high = max(low, length - extent)
        if voxel is None:
            first = int(generator.integers(low, high + 1))
        else:
            first = min(max(int(voxel[axis]) - extent // 2, low), high)
        start.append(first)
    return tuple(start)


def draw_matrix(
    generator: np.random.Generator, spacing: Sequence[float], *, rotation: float, scale: tuple[float, float]
) -> Tensor:
    """A random rotation about every axis and one magnification, `(rank, rank)` in voxels.

    Args:
        generator: Source of the angles and the factor.
        spacing: Of the patch, so that a rotation is one in millimetres.
        rotation: Largest angle in degrees.
        scale: Smallest and largest magnification, drawn evenly on a logarithmic scale.
    """
    rank = len(spacing)
    matrix = np.eye(rank)
    for first, second in [(0, 1)] if rank == 2 else [(0, 1), (0, 2), (1, 2)]:
        angle = math.radians(generator.uniform(-rotation, rotation))
        turn = np.eye(rank)
        turn[first, first] = turn[second, second] = math.cos(angle)
        turn[first, second], turn[second, first] = -math.sin(angle), math.sin(angle)
        matrix = matrix @ turn
    matrix /= math.exp(generator.uniform(math.log(scale[0]), math.log(scale[1])))
    millimetres = np.asarray(spacing, dtype=np.float64)
    return torch.from_numpy(matrix * millimetres[None, :] / millimetres[:, None]).float()


def cut_patch(image: Tensor, labels: Tensor, cut: Cut) -> tuple[Tensor, Tensor]:
    """The patch of an image `(C, *P)` and its labels `(*P)`, outside of them 0.

    Returns:
        `(C, *size)` float32 and `(*size)` int64. Interpolation is linear in the image and the nearest in the labels.
    """
    if cut.matrix is None:
        return _plain(image, cut), _plain(labels[None], cut)[0].long()
    shape = image.shape[1:]
    box, near = _neighbourhood(cut, shape)
    grid = _sampling_grid(cut, [start for start, _ in box], near)
    window = (slice(None), *(slice(start, stop) for start, stop in box))
    turned = functional.grid_sample(image[window][None], grid, "bilinear", "zeros", align_corners=True)[0]
    classes = functional.grid_sample(
        labels[window[1:]][None, None].float(), grid, "nearest", "zeros", align_corners=True
    )
    return turned, classes[0, 0].long()


def _plain(image: Tensor, cut: Cut) -> Tensor:
    shape = image.shape[1:]
    ends = [first + extent for first, extent in zip(cut.start, cut.size, strict=True)]
    inner = image[(slice(None), *(slice(max(a, 0), min(b, n)) for a, b, n in zip(cut.start, ends, shape, strict=True)))]
    padding: list[int] = []
    for first, end, length in reversed(list(zip(cut.start, ends, shape, strict=True))):
        padding += [max(-first, 0), max(end - length, 0)]
    return functional.pad(inner, padding) if any(padding) else inner.clone()


def _neighbourhood(cut: Cut, shape: Sequence[int]) -> tuple[list[tuple[int, int]], list[int]]:
    """The part of the volume that the turned patch can touch, so that work does not grow with the volume."""
    assert cut.matrix is not None
    half = torch.tensor([(extent - 1) / 2 for extent in cut.size])
    reach = cut.matrix.abs() @ half
    box, sizes = [], []
    for axis, length in enumerate(shape):
        centre = cut.start[axis] + float(half[axis])
        # One voxel more on either side, as linear interpolation reads a neighbour.
        first = min(max(math.floor(centre - float(reach[axis])) - 1, 0), length - 1)
        last = max(min(math.ceil(centre + float(reach[axis])) + 2, length), first + 1)
        box.append((first, last))
        sizes.append(last - first)
    return box, sizes


def _sampling_grid(cut: Cut, origin: Sequence[int], sizes: Sequence[int]) -> Tensor:
    """Where each voxel of the patch is read, `(1, *size, rank)` in the coordinates of `grid_sample`."""
    assert cut.matrix is not None
    rank = len(cut.size)
    offsets = [torch.arange(extent, dtype=torch.float32) - (extent - 1) / 2 for extent in cut.size]
    parts = []
    for row in range(rank):
        centre = cut.start[row] + (cut.size[row] - 1) / 2 - origin[row]
        place = torch.full((1,) * rank, centre)
        for axis in range(rank):
            view = [1] * rank
            view[axis] = -1
            place = place + (cut.matrix[row, axis] * offsets[axis]).view(view)
        # grid_sample counts from -1 at the first voxel to 1 at the last.
        parts.append((2 * place / max(sizes[row] - 1, 1) - 1).expand(*cut.size))
    return torch.stack(parts[::-1], dim=-1)[None]
