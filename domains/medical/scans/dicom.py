"""Reading a DICOM stack: voxels in physical units, on the grid its headers describe.

Stored values go through the rescale slope and intercept (or the modality table). `MONOCHROME1`, where small means
bright, is turned over so that larger is brighter, except where values are measurements (CT, MR, PET, NM).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief, fit_picture_channels, refuse_unusable_file
from domains.medical.scans.dicom_headers import DicomHeader, Frame, read_header
from domains.medical.scans.dicom_stacks import Placement, Stack, StackProblem, find_stacks, place
from domains.medical.scans.quiet import quiet
from domains.medical.scans.scan import Reading, SourceGeometry
from pipelines.errors import CaseError

__all__ = ["read_dicom"]

_MEASURED = {"CT", "MR", "PT", "NM"}


def read_dicom(case_id: str, paths: Sequence[Path], *, channels: int, phase: str = "") -> Reading:
    """Reads one stack of slices, or one image without a position in the patient (a radiograph).

    Args:
        case_id: For messages.
        paths: The files of the series, in any order.
        channels: 1, or 3 for a colour image.
        phase: Which stack, where the files hold several (see `Stack.phase`).

    Returns:
        `(1, columns, rows, slices)` and its affine; `(C, rows, columns)` for an image without a position.

    Raises:
        CaseError: If the files hold no stack, several, or one that cannot be read or is not a regular grid.
    """
    for path in paths:
        refuse_unusable_file(case_id, path)
    stack = _choose(case_id, find_stacks(read_header(path) for path in paths), phase)
    notes = (f"{len(stack.copies)} files are copies of others and left out",) if stack.copies else ()
    if stack.frames[0].position is None:
        return _read_picture(case_id, stack, channels, notes)
    try:
        placement = place(stack)
    except StackProblem as problem:
        raise CaseError(case_id, problem.reason, hint=problem.hint) from None
    if channels != 1:
        raise CaseError(case_id, f"1 channel; {channels} were expected", hint="A DICOM series gives one channel.")
    voxels = _read_slices(case_id, placement, stack.header)  # (slices, rows, columns)
    files = tuple(dict.fromkeys(frame.path for frame in placement.frames))
    place_of = {path: index for index, path in enumerate(files)}
    source = SourceGeometry(
        "dicom",
        voxels.shape[::-1],
        paths=files,
        frames=tuple((place_of[frame.path], frame.number) for frame in placement.frames),
    )
    return Reading(voxels.transpose(2, 1, 0)[None], placement.affine, source, notes + placement.notes)


def _choose(case_id: str, stacks: list[Stack], phase: str) -> Stack:
    if len(stacks) > 1:
        stacks = [stack for stack in stacks if stack.phase == phase] if phase else stacks
    readable = [stack for stack in stacks if not stack.problem]
    if len(readable) == 1 and len(stacks) == 1:
        return readable[0]
    if not stacks:
        raise CaseError(case_id, "no such stack of slices any more", hint="The files changed since they were listed.")
    if len(stacks) == 1:
        raise CaseError(case_id, stacks[0].problem, hint="Give the scan itself, an image series.")
    described = "; ".join(f"{len(stack.frames)} of {stack.header.columns}×{stack.header.rows}" for stack in stacks[:4])
    raise CaseError(
        case_id,
        f"{len(stacks)} series or stacks of slices where one was expected ({described})",
        hint="Give the folder to `predict`, which takes each of them, or one series at a time.",
    )


def _read_slices(case_id: str, placement: Placement, header: DicomHeader) -> NDArray[np.float32]:
    shape = (len(placement.frames), header.rows, header.columns)
    voxels = np.empty(shape, dtype=np.float32)
    by_file: dict[Path, list[tuple[int, Frame]]] = {}
    for index, frame in enumerate(placement.frames):
        by_file.setdefault(frame.path, []).append((index, frame))
    for path, members in by_file.items():
        dataset, stored = _decode(case_id, path)
        if _is_colour(dataset):
            raise CaseError(
                case_id,
                f"colour image ({dataset.PhotometricInterpretation}); 1 channel was expected",
                hint="This is a picture or a screenshot; use the series it was made of.",
            )
        pages = stored.reshape(-1, *stored.shape[-2:])  # (frames, rows, columns)
        for index, frame in members:
            if frame.number > len(pages):
                raise CaseError(case_id, "truncated: fewer frames than the header announces", hint=_COPY_AGAIN)
            voxels[index] = _physical(pages[frame.number - 1], dataset, frame)
    return voxels


def _read_picture(case_id: str, stack: Stack, channels: int, notes: tuple[str, ...]) -> Reading:
    if len(stack.frames) > 1:
        raise CaseError(
            case_id,
            f"{len(stack.frames)} frames without positions in the patient",
            hint="A cine loop or a scanned stack is no volume; extract the frame to be used.",
        )
    frame = stack.frames[0]
    dataset, stored = _decode(case_id, frame.path)
    if _is_colour(dataset):
        planes = np.moveaxis(stored.reshape(*stored.shape[-3:]), -1, 0).astype(np.float32)  # (3, H, W)
    else:
        planes = _physical(stored.reshape(stored.shape[-2:]), dataset, frame)[None]  # (1, H, W)
    spacing = frame.pixel_spacing or (1.0, 1.0)
    affine = np.diag([*spacing, 1.0, 1.0])
    source = SourceGeometry("dicom", planes.shape[1:], paths=(frame.path,), frames=((0, 1),))
    return Reading(fit_picture_channels(case_id, planes, channels), affine, source, notes)


def _is_colour(dataset: Any) -> bool:
    return int(dataset.get("SamplesPerPixel") or 1) > 1 or dataset.get("PhotometricInterpretation") == "PALETTE COLOR"


_COPY_AGAIN = "Fetch the file again from the archive."


def _decode(case_id: str, path: Path) -> tuple[Any, NDArray[Any]]:
    import pydicom
    from pydicom.pixels.processing import apply_color_lut

    _silence_gdcm()
    with quiet():
        try:
            dataset = pydicom.dcmread(path, force=True)
        except Exception as error:
            raise CaseError(case_id, f"unreadable DICOM file: {brief(error, path)}", hint=_COPY_AGAIN) from error
        if not any(keyword in dataset for keyword in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise CaseError(case_id, "no pixel data", hint=_COPY_AGAIN)
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        if not syntax:
            raise CaseError(
                case_id,
                "no transfer syntax: how the pixels are coded is not known",
                hint="Export it again as DICOM Part 10.",
            )
        try:
            stored = _pixels(dataset, syntax)
            if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
                stored = apply_color_lut(stored, dataset)
        except Exception as error:
            # pydicom lists what each decoder said, which helps nobody who has no decoder to mend.
            said = "corrupt data" if "all available plugins" in str(error) else brief(error, path)
            raise CaseError(case_id, f"pixels cannot be decoded ({syntax.name}): {said}", hint=_COPY_AGAIN) from error
    return dataset, stored


def _pixels(dataset: Any, syntax: str) -> NDArray[Any]:
    from pydicom.encaps import generate_frames
    from pydicom.uid import JPEGExtended12Bit

    if syntax != JPEGExtended12Bit or int(dataset.get("BitsStored") or 8) <= 8:
        return np.asarray(dataset.pixel_array)
    # The one common coding that neither GDCM nor Pillow reads.
    import imagecodecs

    count = int(dataset.get("NumberOfFrames") or 1)
    pages = [imagecodecs.jpeg8_decode(frame) for frame in generate_frames(dataset.PixelData, number_of_frames=count)]
    return np.stack(pages) if count > 1 else np.asarray(pages[0])


def _physical(stored: NDArray[Any], dataset: Any, frame: Frame) -> NDArray[np.float32]:
    from pydicom.pixels.processing import apply_modality_lut

    if dataset.get("PhotometricInterpretation") == "MONOCHROME1" and dataset.get("Modality") not in _MEASURED:
        bits = int(dataset.get("BitsStored") or 16)
        brightest = -1 if dataset.get("PixelRepresentation") else 2**bits - 1
        stored = brightest - stored.astype(np.int64)
    if dataset.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(stored, dataset), dtype=np.float32)
    slope, intercept = frame.rescale
    # In float64 for a slope such as 3.7741, so that the order of operations cannot show in float32.
    if (slope, intercept) == (1.0, 0.0):
        return stored.astype(np.float32)
    return np.asarray(stored * np.float64(slope) + intercept, dtype=np.float32)


def _silence_gdcm() -> None:
    try:
        import gdcm
    except ImportError:
        return
    for switch in ("WarningOff", "ErrorOff", "DebugOff"):
        getattr(gdcm.Trace, switch)()
