"""A slide: an image in levels, with a size of its pixels that is known or refused, never guessed.

    with open_slide("case", path) as slide:
        slide.mpp                                          # (0.499, 0.499) µm per pixel of level 0, x and y
        slide.region(x, y, 512, 512, level=1)              # uint8 (512, 512, 3)
        slide.region_at(x, y, 224, 224, mpp=0.5)           # the same at a resolution of one's choice
        slide.thumbnail(1024)

Positions are pixels of level 0, x to the right and y down; sizes are pixels of what is returned. Beyond the edge, and
where nothing was scanned, slides are white.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError

__all__ = ["BACKGROUND", "Level", "Slide", "SlideFacts"]

BACKGROUND = 255
_SAME = 0.01
"""Resolutions that differ by less are one: rounded values in headers (0.499 and 0.5) must not cost a resampling."""
_BLOCK = 4096
"""Side of what is read at once when a whole slide is shrunk, in pixels."""


@dataclass(frozen=True)
class Level:
    """One level: its size in pixels, and how many pixels of level 0 lie along one of its."""

    width: int
    height: int
    downsample: float


@dataclass(frozen=True)
class SlideFacts:
    """What a file says of its slide.

    Attributes:
        reader: What read it, such as `openslide/aperio`.
        mpp: Micrometres per pixel of level 0 along x and y; None where the file does not say.
        magnification: Nominal power of the objective; None where the file does not say.
        notes: What a user should know.
    """

    reader: str
    levels: tuple[Level, ...]
    mpp: tuple[float, float] | None
    magnification: float | None = None
    notes: tuple[str, ...] = ()


class Slide(ABC):
    """An open slide. Regions may be read from several threads at once.

    Args:
        case_id: For messages.
        path: Its file.
        facts: What the file says.
        mpp: Micrometres per pixel of level 0 (one number, or x and y), in place of what the file says.
    """

    def __init__(
        self, case_id: str, path: Path, facts: SlideFacts, *, mpp: float | tuple[float, float] | None = None
    ) -> None:
        self.case_id = case_id
        self.path = path
        self.facts = facts
        self.levels = facts.levels
        given = (mpp, mpp) if isinstance(mpp, (int, float)) else mpp
        self._mpp = given or facts.mpp

    @property
    def width(self) -> int:
        """Pixels of level 0 along x."""
        return self.levels[0].width

    @property
    def height(self) -> int:
        """Pixels of level 0 along y."""
        return self.levels[0].height

    @property
    def has_mpp(self) -> bool:
        """Whether the size of its pixels is known."""
        return self._mpp is not None

    @property
    def mpp(self) -> tuple[float, float]:
        """Micrometres per pixel of level 0 along x and y. Raises `CaseError` where neither file nor user said it."""
        if self._mpp is None:
            raise CaseError(
                self.case_id,
                "no size of a pixel (mpp) in the file",
                hint="Say it with mpp=, in micrometres per pixel of the full resolution (--mpp 0.25 on the command "
                "line); the scanner's protocol or the source of the file knows it.",
            )
        return self._mpp

    def region(self, x: int, y: int, width: int, height: int, *, level: int = 0) -> NDArray[np.uint8]:
        """Pixels of one level.

        Args:
            x: Left edge, in pixels of level 0.
            y: Upper edge, in pixels of level 0.
            width: Pixels of the level.
            height: Pixels of the level.
            level: The level.

        Returns:
            uint8 `(height, width, 3)`.
        """
        scale = self.levels[level].downsample
        return self._padded(level, round(x / scale), round(y / scale), width, height)

    def region_at(self, x: int, y: int, width: int, height: int, *, mpp: float) -> NDArray[np.uint8]:
        """Pixels of `mpp` micrometres, from the nearest finer level; `x` and `y` are pixels of level 0."""
        return self.scaled(x, y, width, height, scale=self.scale_of(mpp))

    def scale_of(self, mpp: float) -> tuple[float, float]:
        """Pixels of level 0 along x and y that lie along a pixel of `mpp` micrometres."""
        return mpp / self.mpp[0], mpp / self.mpp[1]

    def scaled(self, x: int, y: int, width: int, height: int, *, scale: Sequence[float]) -> NDArray[np.uint8]:
        """Pixels each of which covers `scale` (x, y) pixels of level 0: uint8 `(height, width, 3)`."""
        import cv2

        level = self.level_for(min(scale))
        step = self.levels[level].downsample
        across, down = scale[0] / step, scale[1] / step
        source = [width if abs(across - 1) < _SAME else round(width * across)]
        source.append(height if abs(down - 1) < _SAME else round(height * down))
        if source == [width, height]:
            return self._padded(level, round(x / step), round(y / step), width, height)
        if source[0] * source[1] > 2 * _BLOCK**2 and min(width, height) > 1:
            return self._in_blocks(x, y, width, height, scale)
        pixels = self._padded(level, round(x / step), round(y / step), max(source[0], 1), max(source[1], 1))
        shrinks = source[0] >= width and source[1] >= height
        shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
        return shrunk.astype(np.uint8, copy=False)

    def level_for(self, downsample: float) -> int:
        """The coarsest level that is no coarser than `downsample`."""
        fine = [i for i, level in enumerate(self.levels) if level.downsample <= downsample * (1 + _SAME)]
        return max(fine, key=lambda index: self.levels[index].downsample) if fine else 0

    def thumbnail(self, longest: int = 1024) -> NDArray[np.uint8]:
        """The whole slide: uint8 `(H, W, 3)`, whose longer side has at most `longest` pixels."""
        return self.overview(max(1.0, max(self.width, self.height) / longest))

    def overview(self, scale: float | Sequence[float]) -> NDArray[np.uint8]:
        """The whole slide, each pixel of which covers `scale` (or x, y) pixels of level 0."""
        across, down = (scale, scale) if isinstance(scale, (int, float)) else scale
        # Whole pixels; 899.9999 are 900.
        width, height = (max(1, int(one + 1e-6)) for one in (self.width / across, self.height / down))
        return self.scaled(0, 0, width, height, scale=(across, down))

    def _in_blocks(self, x: int, y: int, width: int, height: int, scale: Sequence[float]) -> NDArray[np.uint8]:
        result = np.empty((height, width, 3), np.uint8)
        level = self.levels[self.level_for(min(scale))].downsample
        across, down = (max(1, int(_BLOCK * level / one)) for one in scale)
        for top in range(0, height, down):
            for left in range(0, width, across):
                size = min(across, width - left), min(down, height - top)
                corner = x + round(left * scale[0]), y + round(top * scale[1])
                result[top : top + size[1], left : left + size[0]] = self.scaled(*corner, *size, scale=scale)
        return result

    def _padded(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a level, white beyond its edges; all numbers are pixels of the level."""
        whole = self.levels[level]
        left, top = max(x, 0), max(y, 0)
        right, bottom = min(x + width, whole.width), min(y + height, whole.height)
        if (left, top, right, bottom) == (x, y, x + width, y + height):
            return self._read(level, x, y, width, height)
        result = np.full((height, width, 3), BACKGROUND, np.uint8)
        if right > left and bottom > top:
            inside = self._read(level, left, top, right - left, bottom - top)
            result[top - y : bottom - y, left - x : right - x] = inside
        return result

    @abstractmethod
    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        """Pixels of a level that lie within it; all numbers are pixels of the level. Raises `CaseError`."""

    @abstractmethod
    def close(self) -> None:
        """Closes the file; what is read afterwards is an error."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def usable_mpp(x: object, y: object, *, coarsest: float = 100.0) -> tuple[float, float] | None:
    """Sizes of a pixel, where both are numbers that a slide can have (0.02 to `coarsest` µm)."""
    try:
        sizes = float(str(x)), float(str(y))
    except ValueError:
        return None
    return sizes if all(math.isfinite(size) and 0.02 <= size <= coarsest for size in sizes) else None
