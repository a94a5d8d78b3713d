"""Volumes of labelled structures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["volumes_ml"]


def volumes_ml(
    labels: NDArray[np.integer],
    spacing: Sequence[float],
    classes: Sequence[str],
    *,
    voxel_volume: float | None = None,
) -> dict[str, float]:
    """Millilitres of each class.

    Args:
        labels: `(X, Y, Z)`, 0 is background.
        spacing: mm along each axis.
        classes: Names of labels 1, 2, ….
        voxel_volume: mm³ of a voxel where that is not the product of the spacing (a sheared grid: `Scan.voxel_volume`).

    Returns:
        Class → ml, in the order of the classes, 0 for those that are absent.
    """
    counts = np.zeros(len(classes) + 1, dtype=np.int64)
    # By slabs: bincount copies what it counts to eight bytes a voxel.
    for start in range(0, labels.shape[-1], 16):
        counts += np.bincount(labels[..., start : start + 16].ravel(order="K"), minlength=len(counts))[: len(counts)]
    each = math.prod(spacing) if voxel_volume is None else voxel_volume
    return {name: float(counts[number]) * each / 1000.0 for number, name in enumerate(classes, start=1)}
