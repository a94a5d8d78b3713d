"""NIfTI (.nii, .nii.gz, .hdr/.img): reading with named reasons, writing with the source's own header.

Which affine counts: the sform where it is coded and can be inverted, else the qform where it is coded, else the voxel
sizes alone (as nibabel has it: centred, first axis to the left). `xyzt_units` of metres and micrometres become mm.
"""

from __future__ import annotations

import gzip
import logging
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief, refuse_unusable_file
from domains.medical.scans.outputs import OUTPUT_MARK
from domains.medical.scans.scan import Reading, SourceGeometry, affine_problem
from pipelines.errors import CaseError

__all__ = ["is_nifti_name", "read_nifti", "write_nifti"]

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".hdr.gz", ".img.gz")
_MILLIMETRES = {"meter": 1000.0, "micron": 0.001}
# Deflate cannot shrink data by more than this.
_LARGEST_GZIP_RATIO = 1032
_COPY_AGAIN = "Copy the file again from its source."


def is_nifti_name(name: str) -> bool:
    """Whether a file name ends like NIfTI or Analyze."""
    return name.lower().endswith(NIFTI_SUFFIXES)


def read_nifti(case_id: str, path: Path, *, channels: int | None) -> Reading:
    """Reads voxels as they are stored (scaled where the header says so) and the affine.

    Args:
        case_id: For messages.
        path: The file; either of a .hdr/.img pair.
        channels: How many channels the image must have.

    Returns:
        `(C, *S)` array, `(4, 4)` affine (voxel → RAS mm), source, notes.

    Raises:
        CaseError: If the file is not whole, not NIfTI, or not an image of that many channels.
    """
    refuse_unusable_file(case_id, path)
    image = _open(case_id, path)
    _check_voxel_type(case_id, image)
    _check_size(case_id, path, image)
    affine, notes = _affine(case_id, image)
    try:
        array = _voxels(path, image)
    except (OSError, EOFError, zlib.error, ValueError, OverflowError) as error:
        raise CaseError(case_id, f"truncated or corrupt: {brief(error, path)}", hint=_COPY_AGAIN) from error
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    source = SourceGeometry("nifti", tuple(image.shape[:3]), _header_bytes(image), (path,))
    return Reading(_channels_first(case_id, array, channels), affine, source, notes)


def write_nifti(
    path: Path,
    array: NDArray[Any],
    affine: NDArray[np.float64],
    *,
    header: bytes = b"",
    description: str = "",
    labels: bool = False,
) -> None:
    """Writes `(*S)` as NIfTI-1 (or the version of `header`).

    Args:
        path: `.nii` or `.nii.gz`.
        array: `(*S)`; a dtype that NIfTI knows.
        affine: `(4, 4)`; used only where there is no header to keep.
        header: The source's header; its sform, qform, codes, voxel sizes and units are kept bit for bit.
        description: For the header's `descrip` (80 characters); replaces the source's, which may name a patient.
        labels: Whether the intent is a label map.
    """
    import nibabel

    if header:
        image = _with_header(array, header)
    else:
        image = nibabel.Nifti1Image(array, affine, dtype=array.dtype)
        image.header.set_xyzt_units("mm")
        image.set_sform(affine, code="scanner")
        # A quaternion cannot hold a shear; the sform alone then tells the truth.
        qform_holds = np.allclose(image.header.get_qform(), affine, atol=1e-3)
        image.set_qform(affine if qform_holds else None, code="scanner" if qform_holds else "unknown")
        if not qform_holds:
            image.header["pixdim"][1 : 1 + array.ndim] = np.linalg.norm(affine[:3, :3], axis=0)[: array.ndim]
    for name in ("db_name", "aux_file"):
        if name in image.header.keys():  # noqa: SIM118 - a header is not a mapping
            image.header[name] = b""
    image.header.set_intent("label" if labels else "none", name=OUTPUT_MARK)
    image.header["descrip"] = description.encode("ascii", "replace")[:79]
    image.header["cal_min"] = image.header["cal_max"] = 0
    nibabel.save(image, path)


def _with_header(array: NDArray[Any], header: bytes) -> Any:
    import nibabel

    sizes = {int.from_bytes(header[:4], order) for order in ("little", "big")}
    image_class: Any = nibabel.Nifti2Image if 540 in sizes else nibabel.Nifti1Image
    kept = image_class.header_class(header, check=False)
    kept = kept.as_byteswapped("<") if kept.endianness == ">" else kept
    kept.set_data_dtype(array.dtype)
    kept.set_slope_inter(1, 0)
    kept["vox_offset"] = 0
    # Slice timing belongs to the acquisition, not to a result, and nibabel refuses codes that do not fit the shape.
    for name in ("slice_start", "slice_end", "slice_code", "slice_duration"):
        kept[name] = 0
    # Without an affine nibabel leaves sform and qform as they are.
    return image_class(array, None, header=kept)


def _open(case_id: str, path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    logging.getLogger("nibabel.global").setLevel(logging.CRITICAL)
    not_nifti = "Open it in a viewer; the name says NIfTI, the content does not."
    try:
        image = nibabel.load(path)
    except (ImageFileError, HeaderDataError, WrapStructError, ValueError, KeyError, OverflowError) as error:
        raise CaseError(case_id, f"not a NIfTI file: {brief(error, path)}", hint=not_nifti) from error
    except (OSError, EOFError, zlib.error) as error:
        raise CaseError(case_id, f"truncated or corrupt: {brief(error, path)}", hint=_COPY_AGAIN) from error
    if not isinstance(image, nibabel.AnalyzeImage):
        raise CaseError(case_id, f"not a NIfTI file: {type(image).__name__}", hint=not_nifti)
    return image


def _voxels(path: Path, image: Any) -> NDArray[Any]:
    """Stored values, scaled. A gzip file is read to its end, for only there lies the checksum of what came before."""
    if not path.name.lower().endswith(".nii.gz"):
        return np.asanyarray(image.dataobj)
    # nibabel clears the scaling in the header that it hands out; the proxy still knows it.
    shape, dtype, offset = image.shape, image.get_data_dtype(), int(image.dataobj.offset)
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    count = math.prod(shape)
    with gzip.open(path) as file:
        content = file.read(offset + count * dtype.itemsize)
        while file.read(1 << 20):
            pass
    stored = np.frombuffer(content, dtype, count, offset).reshape(shape, order="F")
    return stored if (slope, intercept) == (1, 0) else stored * np.float64(slope) + np.float64(intercept)


def _check_voxel_type(case_id: str, image: Any) -> None:
    dtype = image.get_data_dtype()
    if dtype.fields:
        names = "".join(dtype.fields)
        raise CaseError(
            case_id,
            f"{names} colour voxels, not a scan",
            hint="This is a screenshot or an overlay; use the scan it was made of.",
        )
    if dtype.kind == "c":
        raise CaseError(case_id, "complex voxels", hint="Save the magnitude (or the phase) as a real image.")


def _check_size(case_id: str, path: Path, image: Any) -> None:
    shape = tuple(int(length) for length in image.shape)
    if not shape or any(length <= 0 for length in shape):
        raise CaseError(case_id, f"no voxels: shape {shape}", hint="Export the scan again.")
    data = Path(image.file_map["image"].filename)
    if not data.exists():
        raise CaseError(
            case_id,
            f"incomplete pair: {data.name!r} is missing",
            hint="A .hdr file needs its .img file beside it, and the other way round.",
        )
    held = data.stat().st_size * (_LARGEST_GZIP_RATIO if data.name.lower().endswith(".gz") else 1)
    offset = float(image.dataobj.offset)
    if not 0 <= offset <= held:
        raise CaseError(case_id, f"corrupt header: voxels start at byte {offset:g}", hint=_COPY_AGAIN)
    needed = math.prod(shape) * image.get_data_dtype().itemsize
    if needed > held:
        raise CaseError(
            case_id,
            f"truncated or corrupt: the header announces {needed} bytes of voxels, {data.name!r} holds at most {held}",
            hint=_COPY_AGAIN,
        )


def _affine(case_id: str, image: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    header = image.header
    notes: list[str] = []
    affine = np.asarray(image.affine, dtype=np.float64)
    if hasattr(header, "get_sform"):
        affine, notes = _coded_affine(header)
        unit = _unit(header)
        affine[:3] *= _MILLIMETRES.get(unit, 1.0)
    elif "origin" not in header.keys():  # noqa: SIM118 - a header is not a mapping
        notes.append("Analyze 7.5 tells no orientation; left and right are as nibabel takes them")
    return affine, tuple(notes)


def _coded_affine(header: Any) -> tuple[NDArray[np.float64], list[str]]:
    sform, qform = header.get_sform(coded=True)[0], _qform(header)
    notes: list[str] = []
    if sform is not None and affine_problem(sform):
        if qform is not None and not affine_problem(qform):
            return qform.astype(np.float64), [f"sform is unusable ({affine_problem(sform)}); the qform is used"]
        return sform.astype(np.float64), notes
    if sform is not None:
        if qform is not None and not affine_problem(qform):
            corners = _corners(header.get_data_shape())
            apart = float(np.linalg.norm((sform - qform) @ corners, axis=0).max())
            if apart > 0.1 * float(np.linalg.norm(sform[:3, :3], axis=0).min()):
                notes.append(f"sform and qform lie up to {apart:.2f} apart; the sform is used")
        return sform.astype(np.float64), notes
    if qform is not None:
        return qform.astype(np.float64), notes
    return np.asarray(header.get_base_affine(), dtype=np.float64), [
        "neither sform nor qform is coded; orientation is a guess"
    ]


def _qform(header: Any) -> NDArray[np.float64] | None:
    if int(header["qform_code"]) <= 0:
        return None
    try:
        return np.asarray(header.get_qform(coded=False), dtype=np.float64)
    except Exception:  # noqa: BLE001 - nibabel raises several kinds for a quaternion that is none; it then does not count
        return None


def _corners(shape: tuple[int, ...]) -> NDArray[np.float64]:
    ends = [(0, length - 1) for length in (*shape, 1, 1, 1)[:3]]
    return np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], dtype=np.float64).T  # (4, 8)


def _unit(header: Any) -> str:
    try:
        return str(header.get_xyzt_units()[0])
    except KeyError:
        return "unknown"


def _header_bytes(image: Any) -> bytes:
    return bytes(image.header.binaryblock) if hasattr(image.header, "get_sform") else b""


def _channels_first(case_id: str, array: NDArray[Any], channels: int | None) -> NDArray[Any]:
    # Axes after the third are time (4th) and vector components (5th); singletons among them carry nothing.
    spatial = array.shape[: min(array.ndim, 3)]
    rest = [length for length in array.shape[3:] if length != 1]
    count = math.prod(rest)
    if array.ndim < 2:
        raise CaseError(case_id, f"one-dimensional data of shape {array.shape}", hint="A scan has two or three axes.")
    if len(rest) > 1 or (channels is not None and count != channels):
        described = f"{array.ndim}-D image of {count} volumes (shape {'×'.join(map(str, array.shape))})"
        wanted = "one volume was" if channels == 1 else f"{channels} volumes were"
        raise CaseError(
            case_id, f"{described}; {wanted} expected", hint="Extract the volume to be used into a file of its own."
        )
    return np.moveaxis(array.reshape(*spatial, count), -1, 0)  # (C, *S)
