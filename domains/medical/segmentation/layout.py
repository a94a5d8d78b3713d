"""How the grid of a scan becomes the grid of the network, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.orientation import Turn

__all__ = ["Layout", "network_shape"]


@dataclass(frozen=True)
class Layout:
    """The steps from a scan's grid to the network's; both directions are exact but for the resampling.

    Attributes:
        turn: From the axes of the scan to canonical ones.
        canonical: Shape of the canonical grid.
        crop: First and one past the last voxel kept along each canonical axis.
        shape: Shape of the network's grid, which covers the crop.
    """

    turn: Turn
    canonical: tuple[int, ...]
    crop: tuple[tuple[int, int], ...]
    shape: tuple[int, ...]

    @property
    def cropped(self) -> tuple[int, ...]:
        """Shape of the crop, in voxels of the scan."""
        return tuple(stop - start for start, stop in self.crop)

    def oriented(self, array: NDArray[Any]) -> NDArray[Any]:
        """A scan's `(C, *S)` with canonical axes, cropped; a view."""
        return self.turn.forward(array)[(slice(None), *(slice(start, stop) for start, stop in self.crop))]

    def restored(self, labels: NDArray[Any]) -> NDArray[Any]:
        """Labels of the crop `(*cropped)` on the scan's own grid, 0 outside the crop."""
        full = labels
        if self.cropped != self.canonical:
            full = np.zeros(self.canonical, labels.dtype)
            full[tuple(slice(start, stop) for start, stop in self.crop)] = labels
        return np.ascontiguousarray(self.turn.inverse(full[None])[0])


def network_shape(shape: Sequence[int], spacing: Sequence[float], target: Sequence[float] | None) -> tuple[int, ...]:
    """Voxels along each axis after resampling from `spacing` to `target` mm; at least one."""
    if target is None:
        return tuple(shape)
    return tuple(max(1, round(n * own / new)) for n, own, new in zip(shape, spacing, target, strict=True))
