"""How the grid of a scan becomes the grid of the network, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.scan import Scan

__all__ = ["Layout", "canonical_axes", "network_shape"]


def canonical_axes(scan: Scan) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    """Which axis of the scan runs most nearly right, anterior and superior, and whether it runs backwards.

    A picture, and a single slice of two axes, keeps its axes.
    """
    import nibabel

    rank = len(scan.shape)
    if rank == 2:
        return (0, 1), (False, False)
    orientation = nibabel.io_orientation(scan.affine)  # source axis → (canonical axis, direction)
    axes, flips = [0] * rank, [False] * rank
    for source, (target, direction) in enumerate(orientation):
        axes[int(target)] = source
        flips[int(target)] = direction < 0
    return tuple(axes), tuple(flips)


@dataclass(frozen=True)
class Layout:
    """The steps from a scan's grid to the network's; both directions are exact but for the resampling.

    Attributes:
        axes: Axis `a` of the canonical grid is axis `axes[a]` of the scan.
        flips: Whether axis `a` of the canonical grid runs against the scan's.
        canonical: Shape of the canonical grid.
        crop: First and one past the last voxel kept along each canonical axis.
        shape: Shape of the network's grid, which covers the crop.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]
    canonical: tuple[int, ...]
    crop: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    @property
    def cropped(self) -> tuple[int, ...]:
        """Shape of the crop, in voxels of the scan."""
        return tuple(stop - start for start, stop in self.crop)

    def oriented(self, array: NDArray[Any]) -> NDArray[Any]:
        """A scan's `(C, *S)` with canonical axes, cropped; a view."""
        turned = array.transpose(0, *(axis + 1 for axis in self.axes))
        turned = turned[(slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))]
        return turned[(slice(None), *(slice(start, stop) for start, stop in self.crop))]

    def restored(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels of the crop `(*cropped)` on the scan's own grid, 0 outside the crop."""
        full = labels
        if self.cropped != self.canonical:
            full = np.zeros(self.canonical, labels.dtype)
            full[tuple(slice(start, stop) for start, stop in self.crop)] = labels
        full = full[tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)]
        return np.ascontiguousarray(full.transpose(np.argsort(self.axes)))


def network_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float] | None) -> tuple[int, ...]:
    """Voxels along each axis after resampling from `spacing` to `target` mm; at least one."""
    if target is None:
        return tuple(shape)
    return tuple(max(1, round(n * own / new)) for n, own, new in zip(shape, spacing, target, strict=True))
