"""Canonical orientation (RAS, nearest axes) by permuting and flipping, and the exact way back.

array, affine, turn = to_canonical(scan.array, scan.affine)
back = turn.inverse(array)              # the very array of the scan again
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Turn", "to_canonical"]


@dataclass(frozen=True)
class Turn:
    """A permutation of spatial axes, then flips.

    Attributes:
        axes: Canonical axis → axis of the source.
        flips: Whether each canonical axis runs against the source's.
    """

    axes: tuple[int, ...]
    flips: tuple[bool, ...]

    def forward(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of `(C, *S)` in canonical orientation."""
        turned = array.transpose(0, *(axis + 1 for axis in self.axes))
        return turned[(slice(None), *self._slices())]

    def inverse(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view of canonical `(C, *S)` in the orientation of the source."""
        flipped = array[(slice(None), *self._slices())]
        return flipped.transpose(0, *(int(axis) + 1 for axis in np.argsort(self.axes)))

    def spacing(self, spacing: tuple[float, ...]) -> tuple[float, ...]:
        """The source's spacing, in canonical order."""
        return tuple(spacing[axis] for axis in self.axes)

    def affine(self, affine: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
        """The affine of the turned array, from the affine and spatial shape of the source."""
        back = np.eye(4)
        rank = len(self.axes)
        back[:rank, :rank] = 0
        for canonical, (axis, flip) in enumerate(zip(self.axes, self.flips, strict=True)):
            back[axis, canonical] = -1 if flip else 1
            back[axis, 3] = shape[axis] - 1 if flip else 0
        return affine @ back

    def _slices(self) -> tuple[slice, ...]:
        return tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)


def to_canonical(array: NDArray[Any], affine: NDArray[np.float64]) -> tuple[NDArray[Any], NDArray[np.float64], Turn]:
    """Turns a volume so that its axes point as nearly as can be to the right, to the front and up.

    Args:
        array: `(C, X, Y, Z)`, any dtype.
        affine: `(4, 4)`, voxel → RAS mm; oblique and sheared ones keep their obliqueness.

    Returns:
        A view `(C, X', Y', Z')`, its affine, and the turn with its inverse. An array of two spatial axes is left alone.
    """
    rank = array.ndim - 1
    if rank != 3:
        turn = Turn(tuple(range(rank)), (False,) * rank)
    else:
        import nibabel

        codes = nibabel.io_orientation(affine)  # source axis → (canonical axis, direction)
        axes = tuple(int(axis) for axis in np.argsort(codes[:, 0]))
        turn = Turn(axes, tuple(bool(codes[axis, 1] < 0) for axis in axes))
    return turn.forward(array), turn.affine(affine, array.shape[1:]), turn
