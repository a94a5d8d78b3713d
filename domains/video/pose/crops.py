"""Cutting persons out: one function for training and inference, keeping the aspect, exactly invertible.

    crop = Crop.around((30.0, 20.0, 60.0, 120.0), (256, 192), margin=1.25)
    crop.cut(picture)                    # (256, 192, 3)
    crop.to_picture(crop.to_shares(points))      # the points again

Points are pixels of a picture whose first pixel has its centre at 0, 0; a box is left, top, width and height, so that a
whole picture is (-0.5, -0.5, width, height). Shares are x and y in [0, 1] from edge to edge of the cut.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Box", "Crop", "box_around", "lies_outside", "whole_box"]

Box = tuple[float, float, float, float]
"""Left, top, width, height in pixels."""
Points = NDArray[np.float64]
Pixels = NDArray[np.uint8]

_SMALLEST = 2.0
"""Pixels; a box of joints that lie on one line still has an inside."""


def whole_box(height: int, width: int) -> Box:
    """The box of a whole picture."""
    return -0.5, -0.5, float(width), float(height)


def box_around(points: NDArray[np.floating], known: NDArray[np.bool_]) -> Box:
    """The smallest box that holds the known ones of points `(J, 2)`. Raises `ValueError` where none is known."""
    if not known.any():
        raise ValueError("a box needs at least one known point")
    low, high = points[known].min(0).astype(float), points[known].max(0).astype(float)
    middle, size = (low + high) / 2, np.maximum(high - low, _SMALLEST)
    left, top = middle - size / 2
    return float(left), float(top), float(size[0]), float(size[1])


def lies_outside(box: Box, height: int, width: int) -> bool:
    """Whether a box has no part of a picture."""
    left, top, wide, high = box
    return not (left < width and top < height and left + wide > 0 and top + high > 0)


@dataclass(frozen=True, eq=False)
class Crop:
    """An affine map from a picture to the network's input.

    Attributes:
        matrix: `(2, 3)`, from pixels of the picture to pixels of the input.
        size: Height and width of the input.
    """

    matrix: NDArray[np.float64]
    size: tuple[int, int]

    @classmethod
    def around(
        cls,
        box: Box,
        size: tuple[int, int],
        *,
        margin: float = 1.25,
        degrees: float = 0.0,
        shift: Sequence[float] = (0.0, 0.0),
        flip: bool = False,
    ) -> Crop:
        """The cut around a box.

        The box is widened to the aspect of the input, and by the margin; what lies outside of the picture is black.

        Args:
            box: Left, top, width, height.
            size: Height and width of the input.
            margin: Factor of the box's sides.
            degrees: Turn, counter-clockwise as seen.
            shift: Moves the middle, in shares of the widened box.
            flip: Whether left and right change places, after all else.

        Raises:
            ValueError: The box is empty or not finite.
        """
        left, top, width, height = (float(value) for value in box)
        if not (width > 0 and height > 0 and all(map(math.isfinite, (left, top, width, height)))):
            raise ValueError(f"box {tuple(box)}; a box needs a finite place and a width and height above 0")
        scale = min(size[1] / (width * margin), size[0] / (height * margin))
        middle = np.array([left + width / 2, top + height / 2])
        middle = middle + np.asarray(shift) * np.array([size[1], size[0]]) / scale
        angle = math.radians(degrees)
        turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]) * scale
        if flip:
            turn[0] *= -1
        centre = np.array([(size[1] - 1) / 2, (size[0] - 1) / 2])
        return cls(np.column_stack([turn, centre - turn @ middle]), size)

    @property
    def scale(self) -> float:
        """Pixels of the input for one pixel of the picture."""
        return math.sqrt(abs(float(np.linalg.det(self.matrix[:, :2]))))

    def cut(self, picture: Pixels, *, out: Pixels | None = None) -> Pixels:
        """`(h, w, 3)` → `(H, W, 3)`, bilinear; averaged first where the picture is much finer than the input.

        Args:
            picture: What is cut.
            out: Where the cut is written, where memory for it is there already.
        """
        import cv2

        matrix, factor = self.matrix, int(1 / max(self.scale, 1e-6))
        height, width = (length // factor for length in picture.shape[:2]) if factor > 1 else (0, 0)
        if min(height, width) > 0:
            whole = picture[: height * factor, : width * factor]
            picture = cv2.resize(whole, (width, height), interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
            # A pixel of the averaged picture has its centre in the middle of those it is the mean of.
            offset = matrix[:, :2] @ np.full(2, (factor - 1) / 2) + matrix[:, 2]
            matrix = np.column_stack([matrix[:, :2] * factor, offset])
        cut = cv2.warpAffine(picture, matrix, (self.size[1], self.size[0]), dst=out, flags=cv2.INTER_LINEAR)
        return np.asarray(cut, dtype=np.uint8)

    def to_shares(self, points: NDArray[np.floating]) -> Points:
        """Pixels of the picture `(..., 2)` → shares of the input `(..., 2)`."""
        inside = points @ self.matrix[:, :2].T + self.matrix[:, 2]
        return np.asarray((inside + 0.5) / np.array([self.size[1], self.size[0]]))

    def to_picture(self, shares: NDArray[np.floating]) -> Points:
        """The inverse of `to_shares`."""
        inside = shares * np.array([self.size[1], self.size[0]]) - 0.5
        return np.asarray((inside - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    def lengths(self, shares: NDArray[np.floating]) -> Points:
        """Deviations `(..., 2)` along the axes of the input, in shares → in pixels of the picture."""
        return np.asarray(shares * np.array([self.size[1], self.size[0]]) / self.scale)
