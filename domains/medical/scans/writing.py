"""Writing results over the scan they belong to: same grid, same place, same header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.nifti import is_nifti_name, write_nifti
from domains.medical.scans.scan import Scan

__all__ = ["write_labels", "write_probabilities"]


def write_labels(scan: Scan, labels: NDArray[np.integer], path: Path, classes: Sequence[str]) -> None:
    """Writes a label map `(*S)` on the grid of `scan`.

    Args:
        scan: The scan that the labels lie on.
        labels: `(*S)`, whole numbers from 0 (background) to `len(classes)`.
        path: The file; the suffix chooses the format. `.nii` and `.nii.gz` keep the source's NIfTI header.
        classes: Names of labels 1, 2, ….

    Raises:
        ValueError: If the shape is not the scan's, a value has no class, or the suffix is unknown.
    """
    values = checked_labels(scan, labels, classes)
    if not is_nifti_name(path.name):
        raise ValueError(f"unknown suffix of {path.name!r}; use .nii.gz or .nii")
    description = "labels: " + ", ".join(f"{number} {name}" for number, name in enumerate(classes, start=1))
    write_nifti(
        path,
        values.reshape(scan.source.shape),
        scan.affine,
        header=scan.source.header,
        description=description,
        labels=True,
    )


def write_probabilities(scan: Scan, probabilities: NDArray[np.floating], path: Path) -> None:
    """Writes one probability map `(*S)` as float32 NIfTI on the grid of `scan`."""
    if probabilities.shape != scan.shape:
        raise ValueError(f"probabilities of shape {probabilities.shape} do not lie on the scan's grid {scan.shape}")
    write_nifti(
        path,
        probabilities.astype(np.float32, copy=False).reshape(scan.source.shape),
        scan.affine,
        header=scan.source.header,
    )


def checked_labels(scan: Scan, labels: NDArray[np.integer], classes: Sequence[str]) -> NDArray[np.unsignedinteger]:
    """`labels` in the smallest unsigned type, if they fit the scan and the classes."""
    if labels.shape != scan.shape:
        raise ValueError(f"labels of shape {labels.shape} do not lie on the scan's grid {scan.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels have dtype {labels.dtype}; expected whole numbers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > len(classes):
        raise ValueError(
            f"labels reach from {low} to {high}; with {len(classes)} classes, 0 to {len(classes)} are allowed"
        )
    return labels.astype(np.uint8 if len(classes) < 256 else np.uint16, copy=False)
