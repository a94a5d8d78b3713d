"""One DICOM whole-slide instance: where its frames lie in the file and on the slide, and what they decode to."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief
from domains.medical.scans.quiet import quiet
from domains.medical.slides.slide import usable_mpp
from pipelines.errors import CaseError

__all__ = ["WHOLE_SLIDE_CLASS", "Instance", "read_instance"]

WHOLE_SLIDE_CLASS = "1.2.840.10008.5.1.4.1.1.77.1.6"
Spans = tuple[tuple[int, int], ...]
"""Pieces of a file: offset and length of each."""
_ITEM = 0xE000FFFE
_IMPLICIT = "1.2.840.10008.1.2"
_NATIVE = (_IMPLICIT, "1.2.840.10008.1.2.1")
_JPEG = "1.2.840.10008.1.2.4.50"
_JPEG2000 = ("1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.4.91")
_JPEG_LS = ("1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.81")


@dataclass(frozen=True)
class Instance:
    """A level, or a part of one.

    Attributes:
        flavour: Third value of ImageType: VOLUME, THUMBNAIL, LABEL, OVERVIEW; empty where it is not said.
        width: Columns of the whole level.
        height: Rows of the whole level.
        tile: Height and width of a frame.
        place: (row, column) of a frame in the grid of frames → its pieces in the file.
        mpp: Micrometres per pixel along x and y.
    """

    path: Path
    series: str
    flavour: str
    width: int
    height: int
    tile: tuple[int, int]
    place: dict[tuple[int, int], Spans]
    syntax: str
    photometric: str
    mpp: tuple[float, float] | None
    magnification: float | None

    def decode(self, data: bytes) -> NDArray[np.uint8]:
        """A frame, uint8 `(h, w, 3)`."""
        import imagecodecs

        if self.syntax in _NATIVE:
            flat = np.frombuffer(data, np.uint8)
            return flat[: self.tile[0] * self.tile[1] * 3].reshape(*self.tile, 3)
        if self.syntax == _JPEG:
            # A JPEG file header says YCbCr, whatever the photometric interpretation is.
            told = "RGB" if self.photometric == "RGB" and b"JFIF" not in data[:32] else None
            pixels = imagecodecs.jpeg8_decode(data, colorspace=told, outcolorspace=told)
        elif self.syntax in _JPEG2000:
            pixels = imagecodecs.jpeg2k_decode(data)
        else:
            pixels = imagecodecs.jpegls_decode(data)
        return np.repeat(pixels[..., None], 3, axis=-1) if pixels.ndim == 2 else pixels


def read_instance(case_id: str, path: Path) -> Instance:
    """Reads the header and finds the frames. Raises `CaseError` when that is not a slide that can be shown."""
    import pydicom

    with quiet():
        try:
            with path.open("rb") as file:
                dataset = pydicom.dcmread(file, stop_before_pixels=True)
                start = file.tell()
            return _instance(case_id, path, dataset, start)
        except CaseError:
            raise
        except Exception as error:  # pydicom raises whatever a damaged header leads to
            raise CaseError(
                case_id, f"not a readable DICOM slide: {brief(error, path)}", hint="Copy the file again."
            ) from error


def _instance(case_id: str, path: Path, dataset: Any, start: int) -> Instance:
    if dataset.get("SOPClassUID") != WHOLE_SLIDE_CLASS:
        raise CaseError(case_id, f"{dataset.SOPClassUID.name} is not a whole-slide image")
    syntax = str(dataset.file_meta.TransferSyntaxUID)
    if syntax not in (*_NATIVE, _JPEG, *_JPEG2000, *_JPEG_LS):
        raise CaseError(case_id, f"transfer syntax {dataset.file_meta.TransferSyntaxUID.name} cannot be decoded")
    if dataset.SamplesPerPixel != 3 or dataset.BitsAllocated != 8:
        raise CaseError(
            case_id,
            f"{dataset.SamplesPerPixel} samples of {dataset.BitsAllocated} bits; a stained slide has 3 of 8",
            hint="Fluorescence cannot be read as a stained slide.",
        )
    if int(dataset.get("TotalPixelMatrixFocalPlanes") or 1) > 1 or int(dataset.get("NumberOfOpticalPaths") or 1) > 1:
        raise CaseError(case_id, "several focal planes or optical paths in one file; one was expected")
    tile = int(dataset.Rows), int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    size = int(dataset.TotalPixelMatrixColumns), int(dataset.TotalPixelMatrixRows)
    where = _grid(case_id, dataset, frames, tile, size)
    spans = _spans(path, dataset, start, frames, syntax)
    flavour = dataset.get("ImageType") or []
    optics = (dataset.get("OpticalPathSequence") or [{}])[0]
    power = optics.get("ObjectiveLensPower")
    return Instance(
        path,
        str(dataset.get("SeriesInstanceUID", "")),
        str(flavour[2]) if len(flavour) > 2 else "",
        *size,
        tile,
        dict(zip(where, spans, strict=True)),
        syntax,
        str(dataset.PhotometricInterpretation),
        _mpp(dataset),
        float(power) if power else None,
    )


def _mpp(dataset: Any) -> tuple[float, float] | None:
    for group in (dataset.get("SharedFunctionalGroupsSequence") or [])[:1]:
        measures = group.get("PixelMeasuresSequence")
        if measures and (spacing := measures[0].get("PixelSpacing")):
            return usable_mpp(float(spacing[1]) * 1000, float(spacing[0]) * 1000)
    return None


def _grid(
    case_id: str, dataset: Any, frames: int, tile: tuple[int, int], size: tuple[int, int]
) -> list[tuple[int, int]]:
    """Row and column in the grid of frames, of each frame."""
    columns = -(-size[0] // tile[1])
    rows = -(-size[1] // tile[0])
    groups = dataset.get("PerFrameFunctionalGroupsSequence")
    kind = str(dataset.get("DimensionOrganizationType") or "")
    if kind != "TILED_FULL" and groups and "PlanePositionSlideSequence" in groups[0]:
        positions = [group.PlanePositionSlideSequence[0] for group in groups]
        corners = [
            (int(p.RowPositionInTotalImagePixelMatrix) - 1, int(p.ColumnPositionInTotalImagePixelMatrix) - 1)
            for p in positions
        ]
        if any(row % tile[0] or column % tile[1] for row, column in corners):
            raise CaseError(case_id, "frames that do not lie on a grid")
        return [(row // tile[0], column // tile[1]) for row, column in corners]
    first = int(dataset.get("ConcatenationFrameOffsetNumber") or 0)
    whole = frames == rows * columns
    if kind == "TILED_FULL" or (whole and min(rows, columns) == 1):
        if first + frames > rows * columns:
            raise CaseError(case_id, f"{frames} frames; {rows} × {columns} fill the slide")
        return [divmod(first + index, columns) for index in range(frames)]
    raise CaseError(
        case_id,
        f"the file does not say where its {frames} frames lie (neither TILED_FULL nor positions)",
        hint="Convert the original slide to DICOM again with a tool that writes DimensionOrganizationType.",
    )


def _spans(path: Path, dataset: Any, start: int, frames: int, syntax: str) -> list[Spans]:
    """The pieces of each frame. Raises `ValueError` when the file ends before them."""
    with path.open("rb") as file:
        total = os.fstat(file.fileno()).st_size
        body = start + (8 if syntax == _IMPLICIT else 12)
        if syntax in _NATIVE:
            each = int(dataset.Rows) * int(dataset.Columns) * 3
            found: list[Spans] = [((body + index * each, each),) for index in range(frames)]
        else:
            table, fragments = _fragments(file, body, total)
            found = [(fragment,) for fragment in fragments]
            if len(fragments) != frames:
                found = _joined(fragments, _starts(dataset, table), frames)
    if found[-1][-1][0] + found[-1][-1][1] > total:
        raise ValueError("the file ends early")
    return found


def _fragments(file: Any, body: int, total: int) -> tuple[bytes, list[tuple[int, int]]]:
    """The table of offsets, and offset and length of each fragment of encapsulated pixel data."""
    items, at = [], body
    while at + 8 <= total:
        file.seek(at)
        tag, length = struct.unpack("<II", file.read(8))
        if tag != _ITEM:
            break
        items.append((at + 8, length))
        at += 8 + length
    if len(items) < 2:
        raise ValueError("no frames in the pixel data")
    file.seek(items[0][0])
    return file.read(items[0][1]), items[1:]


def _starts(dataset: Any, table: bytes) -> list[int]:
    if "ExtendedOffsetTable" in dataset:
        return [int(value) for value in np.frombuffer(dataset.ExtendedOffsetTable, "<u8")]
    return [int(value) for value in np.frombuffer(table, "<u4")]


def _joined(fragments: list[tuple[int, int]], starts: list[int], frames: int) -> list[Spans]:
    """Frames of several fragments each: one begins wherever the table of offsets says."""
    if len(starts) != frames:
        raise ValueError(f"{len(fragments)} fragments for {frames} frames, and no table that says where they begin")
    base = fragments[0][0] - 8
    begins = {base + start for start in starts}
    joined: list[Spans] = []
    for offset, length in fragments:
        if offset - 8 in begins:
            joined.append(())
        joined[-1] = (*joined[-1], (offset, length))
    if len(joined) != frames:
        raise ValueError("the table of offsets does not belong to the fragments")
    return joined
