"""DICOM whole-slide images: one file, or the files of one series as levels.

Read with pydicom, which is here for scans already; OpenSlide refuses files without an ImageType, and opens a level only
through the folder that it lies in.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.dicom_frames import Instance, read_instance
from domains.medical.slides.slide import BACKGROUND, Level, Slide, SlideFacts
from pipelines.errors import CaseError

__all__ = ["DicomSlide"]

_KEPT_FRAMES = 96
_NOT_LEVELS = ("LABEL", "OVERVIEW")


class DicomSlide(Slide):
    """A slide from DICOM instances. Raises `CaseError` when they are not levels of one slide."""

    def __init__(self, case_id: str, paths: Sequence[Path], *, mpp: float | tuple[float, float] | None = None) -> None:
        instances = [read_instance(case_id, path) for path in paths]
        parts = [instance for instance in instances if instance.flavour not in _NOT_LEVELS]
        if not parts:
            raise CaseError(case_id, "only a label or an overview of the slide", hint="Give the files of the volume.")
        # Parts of one level (a concatenation) have its size in common.
        sizes = sorted({(part.width, part.height) for part in parts}, reverse=True)
        self._parts = [[part for part in parts if (part.width, part.height) == size] for size in sizes]
        levels = tuple(Level(width, height, sizes[0][0] / width) for width, height in sizes)
        finest = self._parts[0][0]
        facts = SlideFacts("dicom", levels, finest.mpp, finest.magnification)
        super().__init__(case_id, paths[0], facts, mpp=mpp)
        self._files: dict[Path, int] = {}
        self._kept: OrderedDict[Any, NDArray[np.uint8]] = OrderedDict()
        self._lock = threading.Lock()

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        high, wide = self._parts[level][0].tile
        result = np.full((height, width, 3), BACKGROUND, np.uint8)
        for row in range(y // high, -(-(y + height) // high)):
            for column in range(x // wide, -(-(x + width) // wide)):
                if (frame := self._frame(level, row, column)) is None:
                    continue
                top, left = row * high - y, column * wide - x
                first, start = max(top, 0), max(left, 0)
                bottom, right = min(top + high, height), min(left + wide, width)
                result[first:bottom, start:right] = frame[first - top : bottom - top, start - left : right - left]
        return result

    def _frame(self, level: int, row: int, column: int) -> NDArray[np.uint8] | None:
        """A frame, or None where nothing was scanned."""
        key = level, row, column
        with self._lock:
            if (kept := self._kept.get(key)) is not None:
                self._kept.move_to_end(key)
                return kept
        part = next((one for one in self._parts[level] if (row, column) in one.place), None)
        if part is None:
            return None
        data = b"".join(os.pread(self._descriptor(part), *span[::-1]) for span in part.place[row, column])
        if not data:
            return None
        frame = self._decoded(part, data)
        with self._lock:
            self._kept[key] = frame
            while len(self._kept) > _KEPT_FRAMES:
                self._kept.popitem(last=False)
        return frame

    def _decoded(self, part: Instance, data: bytes) -> NDArray[np.uint8]:
        try:
            frame = part.decode(data)
        except Exception as error:  # each codec has errors of its own
            raise CaseError(
                self.case_id, f"damaged slide: a frame cannot be decoded ({error})", hint="Copy the file again."
            ) from error
        if frame.shape != (*part.tile, 3):
            raise CaseError(self.case_id, f"damaged slide: a frame of {frame.shape}, the header says {part.tile}")
        return frame

    def _descriptor(self, part: Instance) -> int:
        with self._lock:
            if part.path not in self._files:
                self._files[part.path] = os.open(part.path, os.O_RDONLY)
            return self._files[part.path]

    def close(self) -> None:
        """Closes the files."""
        with self._lock:
            for descriptor in self._files.values():
                os.close(descriptor)
            self._files.clear()
            self._kept.clear()
