"""Separable linear resampling of a regular grid.

Two grids over the same extent share their outer edges, not the centres of their outer voxels: index `i` of the new grid
lies at `(i + 0.5) * ratio - 0.5` of the old one, with `ratio` = old voxels / new voxels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["axis_weights", "resample", "resample_labels"]


def axis_weights(size: int, new_size: int) -> Tensor:
    """Weights `(new_size, size)` in float32 that carry one axis to another number of voxels.

    Linear interpolation where the new grid is finer, a triangle as wide as a new voxel where it is coarser, so that
    nothing between the new voxels is lost. Rows sum to 1.
    """
    ratio = size / new_size
    centres = (torch.arange(new_size, dtype=torch.float64) + 0.5) * ratio - 0.5
    centres = centres.clamp(0, size - 1)
    width = max(ratio, 1.0)
    distance = (torch.arange(size, dtype=torch.float64)[None] - centres[:, None]).abs()  # (new_size, size)
    weights = (1 - distance / width).clamp_min(0)
    return (weights / weights.sum(1, keepdim=True)).float()


def resample(image: Tensor, shape: Sequence[int]) -> Tensor:
    """Carries `(C, *S)` to `(C, *shape)`; the extent in mm stays the same. The type becomes float32."""
    image = image.float()
    for axis, new_size in enumerate(shape, start=1):
        if image.shape[axis] != new_size:
            weights = axis_weights(image.shape[axis], new_size)  # (new, old)
            image = torch.tensordot(image, weights, dims=([axis], [1])).movedim(-1, axis)
    return image.contiguous()


def resample_labels(labels: Tensor, shape: Sequence[int]) -> Tensor:
    """Carries class indices `(*S)` to `(*shape)`: each class is resampled as a map, and the largest wins.

    Only the classes that occur take memory, and one at a time.
    """
    if tuple(labels.shape) == tuple(shape):
        return labels
    best = torch.zeros(tuple(shape))
    winner = torch.zeros(tuple(shape), dtype=labels.dtype)
    for value in torch.unique(labels).tolist():
        share = resample((labels == value)[None].float(), shape)[0]
        better = share > best
        best[better] = share[better]
        winner[better] = value
    return winner
