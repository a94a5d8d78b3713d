"""What the shapes and spacings of the training part decide: patch and strides."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["plan_patch", "plan_strides", "round_up"]

_SMALLEST = 4
"""An axis is not halved below this many voxels."""
_VOXELS = {2: 256**2, 3: 96**3}


def plan_patch(
    shapes: Sequence[Sequence[int]], spacing: Sequence[float], *, voxels: int | None = None
) -> tuple[int, ...]:
    """The median shape, shortened on its longest axis (in mm) until it holds no more than `voxels`.

    Args:
        shapes: Shapes of the training cases on the network's grid.
        spacing: Of that grid, mm.
        voxels: Largest number of voxels; none is 96³ for volumes and 256² for images.
    """
    patch = [round(float(length)) for length in np.median(np.asarray(shapes), axis=0)]
    limit = voxels or _VOXELS[len(patch)]
    while math.prod(patch) > limit:
        longest = max(range(len(patch)), key=lambda axis: patch[axis] * spacing[axis] if patch[axis] > 1 else 0.0)
        patch[longest] -= max(1, patch[longest] // 16)
    return tuple(patch)


def plan_strides(patch: Sequence[int], spacing: Sequence[float], levels: int) -> tuple[tuple[int, ...], ...]:
    """Strides into levels 1 to `levels - 1`: an axis is halved while it is long enough and not coarser than the finest.

    An axis waits while its spacing is more than twice the smallest, so that features become as long as they are wide.
    """
    extent, reached = [float(length) for length in patch], [float(step) for step in spacing]
    strides = []
    for _ in range(levels - 1):
        halve = [length / 2 >= _SMALLEST for length in extent]
        finest = min((step for step, can in zip(reached, halve, strict=True) if can), default=0.0)
        stride = tuple(2 if can and step <= 2 * finest else 1 for step, can in zip(reached, halve, strict=True))
        extent = [length / step for length, step in zip(extent, stride, strict=True)]
        reached = [step * factor for step, factor in zip(reached, stride, strict=True)]
        strides.append(stride)
    return tuple(strides)


def round_up(patch: Sequence[int], strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """The patch with every axis raised to what the strides divide."""
    multiple = [math.prod(stride[axis] for stride in strides) for axis in range(len(patch))]
    return tuple(-(-length // step) * step for length, step in zip(patch, multiple, strict=True))
