"""The strip below a video: the probability of each class over time, and where one is.

    │ run   ▁▃▆█▇▅▂ │        a row for each class, filled as high as it is probable; a line marks the frame shown

Its size is fixed, whatever the length of the video: moments that fall on the same column show the highest of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Timeline", "most_likely"]

_BACK, _ROW, _FILL, _WON, _TEXT, _CURSOR = (
    (24, 24, 28),
    (40, 40, 46),
    (88, 120, 160),
    (90, 200, 120),
    (235,) * 3,
    (255,) * 3,
)
_GAP = 2
_NAMED = 0.3
"""Largest share of the width that names take."""


class Timeline:
    """Probabilities over time as a strip.

    Args:
        classes: Names, a row for each.
        duration: Seconds that the strip spans.
        width: Columns of the strip in pixels.
        text: Height of letters in pixels.

    Raises:
        ValueError: There is no class, or `duration` is negative.
    """

    def __init__(self, classes: Sequence[str], *, duration: float, width: int, text: int = 12) -> None:
        if not classes or len(set(classes)) < len(classes):
            raise ValueError(f"a timeline takes classes, each once; got {', '.join(classes) or 'none'}")
        if not duration >= 0:
            raise ValueError(f"duration must be at least 0 seconds, got {duration}")
        self.classes, self.duration, self.width = tuple(classes), float(duration), width
        self._row = text + 6
        self.height = len(classes) * (self._row + _GAP) + _GAP
        self._names = self._paint_names(text)  # (height, columns of names, 3)
        columns = width - self._names.shape[1]
        self._levels = np.zeros((len(classes), columns))  # the highest in each column
        self._known = np.zeros(columns, bool)
        self._painted: NDArray[np.uint8] | None = None

    def mark(self, start: float, stop: float, probabilities: Mapping[str, float]) -> None:
        """Says what is probable from one time to another, in seconds; classes without a row are left out.

        Raises:
            ValueError: A probability is not between 0 and 1, or time runs backwards.
        """
        values = np.array([probabilities.get(name, 0.0) for name in self.classes], dtype=np.float64)
        if not ((values >= -1e-6) & (values <= 1 + 1e-6)).all():
            raise ValueError(f"probabilities must be from 0 to 1, got {values[~((values >= 0) & (values <= 1))][0]}")
        if not stop >= start:
            raise ValueError(f"time runs from {start} to {stop} s")
        first, last = self._column(start), self._column(stop)
        piece = slice(first, last + 1)
        fresh = ~self._known[piece]
        self._levels[:, piece] = np.where(fresh, values[:, None], np.maximum(self._levels[:, piece], values[:, None]))
        self._known[piece] = True
        self._painted = None

    def draw(self, time: float) -> NDArray[np.uint8]:
        """The strip `(height, width, 3)` uint8 with a line at this second."""
        if self._painted is None:
            self._painted = self._paint()
        strip = self._painted.copy()
        at = self._names.shape[1] + self._column(time)
        strip[:, at : at + max(1, self.width // 320)] = _CURSOR
        return strip

    def _column(self, time: float) -> int:
        share = time / self.duration if self.duration else 0.0
        return int(np.clip(share * (self._levels.shape[1] - 1), 0, self._levels.shape[1] - 1))

    def _paint(self) -> NDArray[np.uint8]:
        curves = np.empty((self.height, self._levels.shape[1], 3), np.uint8)
        curves[:] = _BACK
        won = self._levels.argmax(0)
        from_bottom = np.arange(self._row, 0, -1)[:, None] / self._row  # (row, 1)
        for number, top in enumerate(self._tops()):
            row = curves[top : top + self._row]
            row[:] = _ROW
            filled = (from_bottom <= self._levels[number]) & self._known
            row[filled & (won != number)] = _FILL
            row[filled & (won == number)] = _WON
        return np.concatenate([self._names, curves], 1)

    def _paint_names(self, text: int) -> NDArray[np.uint8]:
        from PIL import Image, ImageDraw, ImageFont

        font: Any = ImageFont.load_default(size=text)
        columns = int(min(max(font.getlength(name) for name in self.classes) + 10, _NAMED * self.width))
        picture = Image.new("RGB", (columns, self.height), _BACK)
        pen = ImageDraw.Draw(picture)
        for name, top in zip(self.classes, self._tops(), strict=True):
            pen.text((4, top + self._row / 2), _cut(name, columns - 6, font), fill=_TEXT, font=font, anchor="lm")
        return np.asarray(picture).copy()

    def _tops(self) -> range:
        return range(_GAP, self.height - _GAP, self._row + _GAP)


def _cut(name: str, width: int, font: Any) -> str:
    if font.getlength(name) <= width:
        return name
    kept = next((n for n in range(len(name), 0, -1) if font.getlength(name[:n] + "…") <= width), 1)
    return name[:kept] + "…"


def most_likely(classes: Sequence[str], probabilities: NDArray[np.floating[Any]], count: int = 5) -> tuple[str, ...]:
    """Names of the classes that reach the highest probabilities, in their own order: the rows worth showing.

    Args:
        classes: Names.
        probabilities: `(T, classes)` or `(classes,)`.
        count: How many at most.
    """
    peaks = np.atleast_2d(probabilities).max(0)
    chosen = sorted(np.argsort(-peaks, kind="stable")[:count])
    return tuple(classes[place] for place in chosen)
