"""Reading any scan or label map, whatever its format."""

from __future__ import annotations

from pathlib import Path

from domains.medical.scans.checks import as_labels, check_grid, finish_scan, refuse_unusable_file
from domains.medical.scans.dicom_headers import looks_like_dicom
from domains.medical.scans.itk import is_itk_name, read_itk
from domains.medical.scans.nifti import is_nifti_name, read_nifti
from domains.medical.scans.pictures import is_picture_name, read_picture, read_picture_labels
from domains.medical.scans.scan import Scan
from pipelines.errors import CaseError
from pipelines.task import Item

__all__ = ["READABLE", "read_labels", "read_scan"]

READABLE = (
    "NIfTI (.nii, .nii.gz, .hdr/.img), NRRD (.nrrd, .nhdr), MetaImage (.mha, .mhd), DICOM, PNG, JPEG, TIFF, BMP, GIF"
)


def read_scan(source: Path | Item, *, channels: int = 1) -> Scan:
    """Reads an image.

    Args:
        source: A file, a folder that holds one DICOM series, or an item that `discover` listed.
        channels: How many channels the image must have.

    Returns:
        A scan of float32 `(channels, *S)`.

    Raises:
        CaseError: If it cannot be read, or is not one image of that many channels; the reason says why.
    """
    case_id, paths, phase = _unpack(source)
    kind = _kind(case_id, paths)
    if kind == "dicom":
        from domains.medical.scans.dicom import read_dicom

        read = read_dicom(case_id, paths, channels=channels, phase=phase)
    elif kind == "nifti":
        read = read_nifti(case_id, paths[0], channels=channels)
    elif kind == "itk":
        read = read_itk(case_id, paths[0], channels=channels)
    else:
        read = read_picture(case_id, paths[0], channels=channels)
    return finish_scan(case_id, read)


def read_labels(source: Path | Item) -> Scan:
    """Reads a label map as whole numbers `(1, *S)`: uint8, else uint16, else int32.

    Raises:
        CaseError: If it cannot be read, or a value is not a whole number.
    """
    case_id, paths, _ = _unpack(source)
    kind = _kind(case_id, paths)
    if kind == "dicom":
        raise CaseError(case_id, "labels in DICOM", hint="Convert the segmentation to NIfTI first.")
    if kind == "nifti":
        read = read_nifti(case_id, paths[0], channels=1)
    elif kind == "itk":
        read = read_itk(case_id, paths[0], channels=1)
    else:
        read = read_picture_labels(case_id, paths[0])
    check_grid(case_id, read)
    return Scan(as_labels(case_id, read.array), read.affine, read.source, read.notes)


def _unpack(source: Path | Item) -> tuple[str, tuple[Path, ...], str]:
    if isinstance(source, Item):
        if source.problem:
            raise CaseError(source.item_id, source.problem)
        return source.item_id, source.paths, source.detail.get("phase", "")
    path = Path(source)
    if path.is_dir():
        files = tuple(sorted(entry for entry in path.iterdir() if entry.is_file() and looks_like_dicom(entry)))
        if not files:
            raise CaseError(path.name, "a folder without DICOM files", hint="Give the file, or a folder of slices.")
        return path.name, files, ""
    return path.name.split(".")[0] or path.name, (path,), ""


def _kind(case_id: str, paths: tuple[Path, ...]) -> str:
    path = paths[0]
    for kind, matches in (("nifti", is_nifti_name), ("itk", is_itk_name), ("picture", is_picture_name)):
        if matches(path.name):
            return kind
    refuse_unusable_file(case_id, path)
    if looks_like_dicom(path):
        return "dicom"
    raise CaseError(case_id, f"not a format that can be read: {path.name!r}", hint=f"Readable are {READABLE}.")
