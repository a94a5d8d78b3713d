"""Reading the scan and the label of a case, and judging whether they belong together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.reading import read_labels, read_scan
from domains.medical.scans.scan import Scan
from domains.medical.segmentation.classes import Classes
from pipelines.cases import Case
from pipelines.errors import CaseError

__all__ = ["index_labels", "read_files", "read_image", "read_label", "read_mask", "read_reference"]

_SAME_PLACE = 0.1
"""Largest distance between corners of image and label, as a share of a voxel."""


def read_image(case: Case, *, channels: int) -> Scan:
    """The scan of a case, `(channels, *S)` float32. Raises `CaseError` that names the case."""
    return read_files(case.case_id, case.files("image"), channels=channels)


def read_files(case_id: str, files: Sequence[Path], *, channels: int) -> Scan:
    """One scan from one file, or from a file for each channel. Raises `CaseError` that names the case."""
    if not files:
        raise CaseError(case_id, "no image", hint="Name the image's file in the data set.")
    if len(files) == 1:
        return _read(case_id, files[0], "image", channels)
    if len(files) != channels:
        raise CaseError(
            case_id, f"{len(files)} image files; {channels} were expected", hint="Give one file for each channel."
        )
    scans = [_read(case_id, path, f"image {number}", 1) for number, path in enumerate(files)]
    for number, other in enumerate(scans[1:], start=1):
        _same_grid(case_id, scans[0], other, f"image {number}")
    return replace(scans[0], array=np.concatenate([scan.array for scan in scans]))


def read_reference(case: Case, scan: Scan, classes: Classes) -> NDArray[Any]:
    """Class indices `(*S)` of a case, on the grid of its scan.

    Raises:
        CaseError: There is no label, it lies on another grid than the image, or a value means no class.
    """
    label = read_label(case)
    _same_grid(case.case_id, scan, label, "label")
    return index_labels(case.case_id, label, classes)


def read_label(case: Case) -> Scan:
    """The label file of a case as it is, `(1, *S)`. Raises `CaseError`."""
    if "label" not in case.paths:
        raise CaseError(
            case.case_id, "image without a label", hint="Add the label file, or take the case out of the data set."
        )
    return _read(case.case_id, case.paths["label"], "label", 1)


def index_labels(case_id: str, label: Scan, classes: Classes) -> NDArray[Any]:
    """Class indices `(*S)` of a label file. Raises `CaseError` when a value means no class."""
    values = label.array[0]
    known = {value for group in classes.values.values() for value in group}
    if label.source.kind == "picture" and 255 in known and 1 not in known:
        # A mask of 0 and 255 is read as 0 and 1, and may be meant either way.
        values = np.where(values == 1, 255, values)
    return classes.index(case_id, values)


def read_mask(case: Case, scan: Scan) -> NDArray[np.bool_] | None:
    """Where a case is judged, `(*S)`; none where it has no `mask`. Raises `CaseError`."""
    if "mask" not in case.paths:
        return None
    mask = _read(case.case_id, case.paths["mask"], "mask", 1)
    _same_grid(case.case_id, scan, mask, "mask")
    return np.asarray(mask.array[0] > 0)


def _read(case_id: str, path: Path, role: str, channels: int) -> Scan:
    try:
        return read_labels(path) if role in ("label", "mask") else read_scan(path, channels=channels)
    except CaseError as error:
        # A reader names the file; the table, the report and the user know the case.
        raise CaseError(case_id, f"{role}: {error.reason}", hint=error.hint) from error


def _same_grid(case_id: str, scan: Scan, other: Scan, role: str) -> None:
    if other.shape != scan.shape:
        raise CaseError(
            case_id,
            f"shape mismatch: image {_times(scan.shape)}, {role} {_times(other.shape)}",
            hint=f"Resample the {role} to the grid of the image (nearest neighbour), or find the {role} it belongs to.",
        )
    if scan.source.kind == "picture" or other.source.kind == "picture":
        return
    ends = np.array([[0, length - 1] for length in scan.shape], dtype=np.float64)
    corners = np.array(np.meshgrid(*ends, indexing="ij")).reshape(len(ends), -1)
    homogeneous = np.zeros((4, corners.shape[1]))
    homogeneous[: len(ends)], homogeneous[3] = corners, 1
    apart = float(np.linalg.norm((scan.affine - other.affine)[:3] @ homogeneous, axis=0).max())
    if apart > _SAME_PLACE * min(scan.spacing):
        raise CaseError(
            case_id,
            f"affine mismatch: image and {role} lie up to {apart:.2f} mm apart",
            hint=f"Export the {role} again, or give it the affine of the image if only its header is wrong.",
        )


def _times(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))
