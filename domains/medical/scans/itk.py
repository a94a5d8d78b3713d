"""NRRD and MetaImage (.nrrd, .nhdr, .mha, .mhd) through SimpleITK; LPS there, RAS here."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief, refuse_unusable_file
from domains.medical.scans.scan import Reading, SourceGeometry
from pipelines.errors import CaseError

__all__ = ["is_itk_name", "read_itk", "write_itk"]

ITK_SUFFIXES = (".nrrd", ".nhdr", ".mha", ".mhd")
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
# Deflate cannot shrink data by more than this.
_LARGEST_GZIP_RATIO = 1032


def is_itk_name(name: str) -> bool:
    """Whether a file name ends like NRRD or MetaImage."""
    return name.lower().endswith(ITK_SUFFIXES)


def read_itk(case_id: str, path: Path, *, channels: int | None) -> Reading:
    """Reads voxels and affine.

    Args:
        case_id: For messages.
        path: The file; a header with its data beside it is fine.
        channels: How many channels the image must have; components and a fourth axis both count.

    Returns:
        `(C, *S)` array with axes in the order of the file, `(4, 4)` affine (voxel → RAS mm), source, notes.

    Raises:
        CaseError: If the file is not whole, not of these formats, or not an image of that many channels.
    """
    import SimpleITK

    refuse_unusable_file(case_id, path)
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    # Told, for ITK goes by endings and knows them in lower case only.
    reader.SetImageIO("NrrdImageIO" if path.suffix.lower() in (".nrrd", ".nhdr") else "MetaImageIO")
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise CaseError(
            case_id,
            f"not a readable {path.suffix.lower()} file: {_reason(error, path)}",
            hint="Open it in a viewer, or copy it again.",
        ) from error
    count = _check_kind(case_id, reader, channels)
    _check_size(case_id, path, reader)
    try:
        image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise CaseError(
            case_id, f"truncated or corrupt: {_reason(error, path)}", hint="Copy the file again from its source."
        ) from error
    rank = min(image.GetDimension(), 3)
    values = SimpleITK.GetArrayFromImage(image)  # (..., z, y, x[, components])
    if image.GetNumberOfComponentsPerPixel() > 1:
        values = np.moveaxis(values, -1, 0)
    spatial = values.shape[values.ndim - rank :]
    array = values.reshape(count, *spatial).transpose(0, *range(rank, 0, -1))  # (C, x, y, z)
    return Reading(array, _affine(image, rank), SourceGeometry("itk", array.shape[1:], paths=(path,)))


def write_itk(path: Path, array: NDArray[Any], affine: NDArray[np.float64]) -> None:
    """Writes `(*S)` as NRRD or MetaImage, compressed. The affine must have right angles.

    Raises:
        ValueError: If the affine is sheared, which these formats cannot tell through SimpleITK.
    """
    import SimpleITK

    rank = array.ndim
    lps = (_LPS_TO_RAS @ affine)[:3]
    spacing = np.linalg.norm(lps[:rank, :rank], axis=0)
    direction = lps[:rank, :rank] / spacing
    if np.abs(direction.T @ direction - np.eye(rank)).max() > 1e-3:
        raise ValueError("a sheared grid cannot be written as NRRD or MetaImage; use .nii.gz")
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.transpose()))
    image.SetSpacing(spacing.tolist())
    image.SetDirection(direction.ravel().tolist())
    image.SetOrigin(lps[:rank, 3].tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _check_kind(case_id: str, reader: Any, channels: int | None) -> int:
    import SimpleITK

    size, components = reader.GetSize(), reader.GetNumberOfComponents()
    if "complex" in SimpleITK.GetPixelIDValueAsString(reader.GetPixelID()):
        raise CaseError(case_id, "complex voxels", hint="Save the magnitude (or the phase) as a real image.")
    count = components * math.prod(size[3:])
    if channels is not None and count != channels:
        described = "×".join(map(str, size)) + (f" with {components} components" if components > 1 else "")
        raise CaseError(
            case_id,
            f"image of {count} channels (size {described}); {channels} {'was' if channels == 1 else 'were'} expected",
            hint="Colour images and time series are not scans; extract the volume to use into its own file.",
        )
    return int(count)


def _check_size(case_id: str, path: Path, reader: Any) -> None:
    # A detached header names its data; then the size of this file says nothing.
    if path.suffix.lower() in (".nhdr", ".mhd"):
        return
    held = path.stat().st_size
    needed = math.prod(reader.GetSize()) * reader.GetNumberOfComponents()
    if needed > held * _LARGEST_GZIP_RATIO:
        raise CaseError(
            case_id,
            f"truncated or corrupt: the header announces {needed} voxels, the file has {held} bytes",
            hint="Copy the file again from its source.",
        )


def _affine(image: Any, rank: int) -> NDArray[np.float64]:
    dimension = image.GetDimension()
    direction = np.array(image.GetDirection(), dtype=np.float64).reshape(dimension, dimension)[:rank, :rank]
    affine = np.eye(4)
    affine[:rank, :rank] = direction * np.array(image.GetSpacing()[:rank])
    affine[:rank, 3] = image.GetOrigin()[:rank]
    return _LPS_TO_RAS @ affine


def _reason(error: BaseException, path: Path) -> str:
    # ITK's messages are several lines of file names and addresses; the last one says what happened.
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return brief(type(error)(lines[-1].rpartition("): ")[2] if lines else ""), path)
