"""What a DICOM file says about itself and each of its frames, without its pixels.

Classic files hold one frame; enhanced multi-frame files tell position, orientation and spacing in functional groups.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from domains.medical.scans.checks import brief
from domains.medical.scans.quiet import quiet

__all__ = ["DicomHeader", "Frame", "looks_like_dicom", "read_header"]

# What can tell images at one position apart, in the order in which it is tried.
PHASE_FIELDS = (
    "AcquisitionNumber",
    "TemporalPositionIdentifier",
    "TemporalPositionIndex",
    "EchoNumbers",
    "EchoTime",
    "EffectiveEchoTime",
    "DiffusionBValue",
    "NominalPercentageOfCardiacPhase",
    "TriggerTime",
    "StackID",
    "ConvolutionKernel",
    "ImageType",
    "FrameType",
    "AcquisitionTime",
)

_TAGS = [
    *PHASE_FIELDS,
    "SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "Modality", "SeriesNumber", "Manufacturer",
    "Rows", "Columns", "NumberOfFrames", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "PatientName", "PatientID",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "DirectoryRecordSequence",
]  # fmt: skip

# JPEG 2000 of an empty image comes to some thousands of pixels a byte.
_MOST_PIXELS_PER_BYTE = 20_000

# Storage classes with pixels that are no scan, by the last parts of their UID under 1.2.840.10008.5.1.4.1.1.
_ROOT = "1.2.840.10008.5.1.4.1.1."
_NOT_A_SCAN = {
    "481.2": "RT dose, not an image",
    "66.4": "a segmentation (SEG), not an image",
    "66.7": "a segmentation (SEG), not an image",
    "30": "a parametric map, not an image",
    "77.1.6": "a whole-slide image, not a scan",
}


@dataclass(frozen=True)
class Frame:
    """One slice of one file. Positions and directions are DICOM's: LPS, mm.

    Attributes:
        path: The file.
        number: Frame number in the file, from 1.
        position: Centre of the first pixel.
        directions: Row and column direction cosines (6 numbers).
        pixel_spacing: Between rows, between columns, mm.
        thickness: Distance to the next slice as the header tells it, else the slice's thickness, mm.
        rescale: Slope and intercept from stored to physical values.
        phase: What tells it from other frames at its position.
    """

    path: Path
    number: int
    position: tuple[float, ...] | None
    directions: tuple[float, ...] | None
    pixel_spacing: tuple[float, ...] | None
    thickness: float | None
    rescale: tuple[float, float]
    phase: Mapping[str, str]


@dataclass(frozen=True)
class DicomHeader:
    """One DICOM file.

    Attributes:
        problem: Why it is no scan; empty when it may be one.
        names: Patient name and identifier, in parts, so that they can be kept out of what is written.
    """

    path: Path
    series_uid: str = ""
    instance_uid: str = ""
    class_uid: str = ""
    modality: str = ""
    series_number: str = ""
    manufacturer: str = ""
    rows: int = 0
    columns: int = 0
    frames: tuple[Frame, ...] = ()
    problem: str = ""
    names: tuple[str, ...] = field(default=(), repr=False)
    is_directory: bool = False


def looks_like_dicom(path: Path) -> bool:
    """Whether the file starts as DICOM does: `DICM` after 128 bytes, or directly with a first group."""
    try:
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    # Files of old software have no preamble; their first element is (0002,xxxx) or (0008,xxxx) of even length.
    return start[128:132] == b"DICM" or (len(start) > 8 and start[:2] in (b"\x02\x00", b"\x08\x00") and start[3] == 0)


def read_header(path: Path) -> DicomHeader:
    """Reads one file's header. Never raises for what is in the file: see `DicomHeader.problem`."""
    import pydicom

    with quiet():
        try:
            dataset = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS, force=True)
            return _header(path, dataset)
        except (Exception, zlib.error) as error:  # noqa: BLE001 - a header can be broken in any way; this ends the one file
            return DicomHeader(path, problem=f"unreadable DICOM header: {brief(error, path)}")


def _header(path: Path, dataset: Any) -> DicomHeader:
    def text(keyword: str) -> str:
        return str(dataset.get(keyword) or "").strip()

    class_uid = text("SOPClassUID") or str(dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    rows, columns = int(dataset.get("Rows") or 0), int(dataset.get("Columns") or 0)
    problem = _problem(dataset, class_uid, rows, columns) or _too_large(path, dataset, rows * columns)
    return DicomHeader(
        path=path,
        series_uid=text("SeriesInstanceUID"),
        instance_uid=text("SOPInstanceUID"),
        class_uid=class_uid,
        modality=text("Modality"),
        series_number=text("SeriesNumber"),
        manufacturer=text("Manufacturer"),
        rows=rows,
        columns=columns,
        frames=() if problem else _frames(path, dataset),
        problem=problem,
        names=tuple(part for part in [*text("PatientName").replace("^", " ").split(), text("PatientID")] if part),
        is_directory="DirectoryRecordSequence" in dataset or class_uid == "1.2.840.10008.1.3.10",
    )


def _problem(dataset: Any, class_uid: str, rows: int, columns: int) -> str:
    from pydicom.uid import UID

    if class_uid.startswith(_ROOT) and (named := _NOT_A_SCAN.get(class_uid.removeprefix(_ROOT))):
        return named
    if rows <= 0 or columns <= 0:
        if not class_uid:
            syntax = "" if dataset.file_meta.get("TransferSyntaxUID") else ", no transfer syntax"
            return f"not a DICOM image: no image size{syntax} and no storage class in its header"
        return f"{UID(class_uid).name}, not an image" if UID(class_uid).name != class_uid else "not an image"
    return ""


def _too_large(path: Path, dataset: Any, pixels: int) -> str:
    """A corrupt size would have memory set aside for pixels that no file of this length can hold, however coded."""
    count = int(dataset.get("NumberOfFrames") or 1)
    if count < 1 or count * pixels > path.stat().st_size * _MOST_PIXELS_PER_BYTE:
        return f"corrupt header: {count} frames of {pixels} pixels in {path.stat().st_size} bytes"
    return ""


def _frames(path: Path, dataset: Any) -> tuple[Frame, ...]:
    count = int(dataset.get("NumberOfFrames") or 1)
    groups = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = (dataset.get("SharedFunctionalGroupsSequence") or [None])[0]
    frames = []
    for number in range(1, count + 1):
        own = groups[number - 1] if number <= len(groups) else None
        frames.append(_frame(path, number, [level for level in (own, shared) if level is not None], dataset, count))
    return tuple(frames)


def _frame(path: Path, number: int, groups: list[Any], dataset: Any, count: int) -> Frame:
    def find(keyword: str, sequence: str) -> Any:
        for group in groups:
            inner = group.get(sequence)
            if inner and inner[0].get(keyword) is not None:
                return inner[0].get(keyword)
        # One position at the top of a file of many frames is that of the first only.
        return None if count > 1 and keyword == "ImagePositionPatient" else dataset.get(keyword)

    slope = find("RescaleSlope", "PixelValueTransformationSequence")
    intercept = find("RescaleIntercept", "PixelValueTransformationSequence")
    thickness = find("SpacingBetweenSlices", "PixelMeasuresSequence") or find("SliceThickness", "PixelMeasuresSequence")
    spacing = find("PixelSpacing", "PixelMeasuresSequence") or dataset.get("ImagerPixelSpacing")
    return Frame(
        path=path,
        number=number,
        position=_numbers(find("ImagePositionPatient", "PlanePositionSequence"), 3),
        directions=_numbers(find("ImageOrientationPatient", "PlaneOrientationSequence"), 6),
        pixel_spacing=_numbers(spacing or dataset.get("NominalScannedPixelSpacing"), 2),
        thickness=abs(float(thickness)) if thickness else None,
        rescale=(1.0 if slope is None else float(slope), 0.0 if intercept is None else float(intercept)),
        phase=_phase(groups, dataset),
    )


def _phase(groups: list[Any], dataset: Any) -> dict[str, str]:
    found = {name: str(value) for name in PHASE_FIELDS if (value := dataset.get(name)) not in (None, "")}
    for group in reversed(groups):
        for element in group:
            if element.VR == "SQ" and element.value:
                inner = element.value[0]
                found |= {name: str(value) for name in PHASE_FIELDS if (value := inner.get(name)) not in (None, "")}
    return found


def _numbers(value: Any, count: int) -> tuple[float, ...] | None:
    try:
        numbers = tuple(float(number) for number in value)
    except (TypeError, ValueError):
        return None
    return numbers if len(numbers) == count else None
