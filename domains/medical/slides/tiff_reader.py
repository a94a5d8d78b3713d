"""TIFF that is no scanner format of OpenSlide's: OME-TIFF, qptiff, plain and pyramidal TIFF, tiled or in strips.

Only the segments (tiles or strips) that a region touches are read and decoded; the last ones are kept.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief
from domains.medical.scans.quiet import quiet
from domains.medical.slides.slide import BACKGROUND, Level, Slide, SlideFacts, usable_mpp
from pipelines.errors import CaseError

__all__ = ["TiffSlide"]

_KEPT_BYTES = 128 * 2**20
_COARSEST = 10.0
"""Pixels larger than this, in µm, are no resolution of a slide but a hint for printing (72 dpi is 353 µm)."""
_MICROMETRES = {"µm": 1.0, "um": 1.0, "μm": 1.0, "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6}
_UNITS = {2: 25400.0, 3: 10000.0}
"""TIFF ResolutionUnit → micrometres: inch, centimetre."""


class TiffSlide(Slide):
    """A slide that tifffile reads. Raises `CaseError` when its pixels are not colours of 8 bits."""

    def __init__(self, case_id: str, path: Path, *, mpp: float | tuple[float, float] | None = None) -> None:
        import tifffile

        with quiet():
            try:
                self._file: Any = tifffile.TiffFile(path)
            except (OSError, ValueError, tifffile.TiffFileError) as error:
                raise _damaged(case_id, error, path) from error
            try:
                pages = _colour_pages(case_id, self._file)
                facts = _facts(self._file, pages)
            except (CaseError, OSError, ValueError, KeyError, IndexError, tifffile.TiffFileError) as error:
                self._file.close()
                raise error if isinstance(error, CaseError) else _damaged(case_id, error, path) from error
        super().__init__(case_id, path, facts, mpp=mpp)
        self._pages = pages
        self._descriptor = os.open(path, os.O_RDONLY)
        self._kept: OrderedDict[tuple[int, int], NDArray[np.uint8]] = OrderedDict()
        self._kept_bytes = 0
        self._lock = threading.Lock()

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        page = self._pages[level]
        high, wide = _segment_shape(page)
        across = -(-page.imagewidth // wide)
        result = np.full((height, width, 3), BACKGROUND, np.uint8)
        for row in range(y // high, -(-(y + height) // high)):
            for column in range(x // wide, -(-(x + width) // wide)):
                segment = self._segment(level, row * across + column)
                top, left = row * high - y, column * wide - x
                bottom, right = min(top + segment.shape[0], height), min(left + segment.shape[1], width)
                first, start = max(top, 0), max(left, 0)
                result[first:bottom, start:right] = segment[first - top : bottom - top, start - left : right - left]
        return result

    def _segment(self, level: int, index: int) -> NDArray[np.uint8]:
        with self._lock:
            if (kept := self._kept.get((level, index))) is not None:
                self._kept.move_to_end((level, index))
                return kept
        decoded = self._decode(level, index)
        with self._lock:
            if (level, index) not in self._kept:
                self._kept[level, index] = decoded
                self._kept_bytes += decoded.nbytes
            while self._kept_bytes > _KEPT_BYTES and len(self._kept) > 1:
                self._kept_bytes -= self._kept.popitem(last=False)[1].nbytes
        return decoded

    def _decode(self, level: int, index: int) -> NDArray[np.uint8]:
        """One segment, uint8 `(h, w, 3)`; planes that are stored apart are put together."""
        page = self._pages[level]
        planes = page.samplesperpixel if int(page.planarconfig) == 2 else 1
        count = len(page.dataoffsets) // planes
        parts = []
        for plane in range(planes):
            at = plane * count + index
            length = page.databytecounts[at]
            data = os.pread(self._descriptor, length, page.dataoffsets[at]) if length else None
            if data is not None and len(data) < length:
                raise CaseError(self.case_id, "damaged slide: the file ends early", hint="Copy it again.")
            try:
                decoded, _, shape = page.decode(data, at, jpegtables=page.jpegtables, jpegheader=page.jpegheader)
            except Exception as error:  # each codec has errors of its own
                raise _damaged(self.case_id, error, self.path) from error
            if decoded is None:
                decoded = np.full(shape, BACKGROUND, np.uint8)
            parts.append(decoded[0, : shape[1], : shape[2]])  # (h, w, samples)
        whole = np.concatenate(parts, axis=-1)
        return np.repeat(whole, 3, axis=-1) if whole.shape[-1] == 1 else np.ascontiguousarray(whole[..., :3])

    def close(self) -> None:
        """Closes the file."""
        self._file.close()
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
        self._kept.clear()


def _segment_shape(page: Any) -> tuple[int, int]:
    if page.is_tiled:
        return page.tilelength, page.tilewidth
    return min(page.rowsperstrip, page.imagelength), page.imagewidth


def _colour_pages(case_id: str, file: Any) -> list[Any]:
    """The page of each level of the largest image, finest first."""
    series = max(file.series, key=lambda one: int(np.prod(one.shape)))
    if series.dtype != np.uint8:
        raise CaseError(
            case_id,
            f"pixels of type {series.dtype}, axes {series.axes} {series.shape}; a slide has 8-bit colours",
            hint="Fluorescence and other images of many channels cannot be read as a stained slide; export RGB.",
        )
    pages = [level.pages[0] for level in series.levels]
    first = pages[0]
    if len(series.levels[0].pages) > 1 or first.samplesperpixel not in (1, 3, 4):
        raise CaseError(
            case_id,
            f"{len(series.levels[0].pages)} planes of {first.samplesperpixel} samples, axes {series.axes} "
            f"{series.shape}; a slide has one plane of colours",
            hint="Fluorescence channels, focus planes and time points cannot be read as one slide; export RGB.",
        )
    # Plain pyramids keep their levels as further pages, each half the size or less, of the same kind.
    if len(pages) == 1 and not file.is_ome:
        for page in (p for one in file.series for p in one.pages if one is not series):
            smaller = pages[-1].imagewidth / max(page.imagewidth, 1)
            same = abs(smaller - pages[-1].imagelength / max(page.imagelength, 1)) < 0.02 * smaller
            if page.is_reduced and same and smaller > 1.5 and page.samplesperpixel == first.samplesperpixel:
                pages.append(page)
    return pages


def _facts(file: Any, pages: list[Any]) -> SlideFacts:
    wide = pages[0].imagewidth
    levels = tuple(Level(page.imagewidth, page.imagelength, wide / page.imagewidth) for page in pages)
    kind = "ome" if file.is_ome else "qptiff" if file.is_qpi else "tiff"
    size, power = _of_ome(file) if file.is_ome else (None, None)
    return SlideFacts(f"tifffile/{kind}", levels, size or _of_tags(pages[0]), power)


def _of_tags(page: Any) -> tuple[float, float] | None:
    """Size of a pixel from the resolution tags, where it can be that of a slide."""
    unit = _UNITS.get(int(page.tags["ResolutionUnit"].value)) if "ResolutionUnit" in page.tags else None
    if unit is None or "XResolution" not in page.tags or "YResolution" not in page.tags:
        return None
    per_unit = [page.tags[name].value for name in ("XResolution", "YResolution")]
    if any(above <= 0 or below <= 0 for above, below in per_unit):
        return None
    x, y = (unit * below / above for above, below in per_unit)
    return usable_mpp(x, y, coarsest=_COARSEST)


def _of_ome(file: Any) -> tuple[tuple[float, float] | None, float | None]:
    """Size of a pixel and power of the objective, of the first image that OME-XML describes."""
    try:
        root = ElementTree.fromstring(file.ome_metadata)
    except (ElementTree.ParseError, TypeError):
        return None, None
    pixels, objective = root.find(".//{*}Pixels"), root.find(".//{*}Objective")
    power = objective.get("NominalMagnification") if objective is not None else None
    size = None
    if pixels is not None and (x := pixels.get("PhysicalSizeX")) and (y := pixels.get("PhysicalSizeY")):
        units = [_MICROMETRES.get(pixels.get(f"PhysicalSize{axis}Unit", "µm")) for axis in "XY"]
        if units[0] and units[1]:
            size = usable_mpp(float(x) * units[0], float(y) * units[1])
    return size, float(power) if power else None


def _damaged(case_id: str, error: Exception, path: Path) -> CaseError:
    return CaseError(case_id, f"not a readable TIFF: {brief(error, path)}", hint="Copy the file again from its source.")
