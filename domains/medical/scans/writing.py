"""Writing results over the scan they belong to: same grid, same place, same header."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.itk import is_itk_name, write_itk
from domains.medical.scans.labels import checked_labels
from domains.medical.scans.nifti import write_nifti
from domains.medical.scans.pictures import write_picture
from domains.medical.scans.scan import Scan

__all__ = ["label_suffix", "write_labels", "write_probabilities"]


def label_suffix(scan: Scan) -> str:
    """The file ending that a label map of this scan is written with: `.png` for a picture, else `.nii.gz`."""
    return ".png" if scan.is_2d and scan.source.kind in ("picture", "dicom") else ".nii.gz"


def write_labels(scan: Scan, labels: NDArray[np.integer], path: Path, classes: Sequence[str]) -> None:
    """Writes a label map on the grid of `scan`.

    Args:
        scan: The scan that the labels lie on.
        labels: `(*S)`, whole numbers from 0 (background) to `len(classes)`.
        path: The file; its ending chooses the format. `.nii` and `.nii.gz` keep the header of a NIfTI source (shape,
            sform, qform and their codes, voxel sizes, units); `.nrrd`, `.mha`, `.mhd`, and `.png` for two axes.
        classes: Names of labels 1, 2, ….

    Raises:
        ValueError: If the shape is not the scan's, a value has no class, or the ending does not suit the scan.
    """
    values = checked_labels(scan, labels, classes)
    name = path.name.lower()
    if name.endswith((".nii", ".nii.gz")):
        description = "; ".join(f"{number} {name}" for number, name in enumerate(classes, start=1))
        grid = values.reshape(scan.source.shape)
        write_nifti(path, grid, scan.affine, header=scan.source.header, description=description, labels=True)
    elif is_itk_name(name):
        write_itk(path, values, scan.affine)
    elif name.endswith(".png") and scan.is_2d:
        write_picture(path, values)
    else:
        allowed = ".png, .nii.gz, .nii" if scan.is_2d else ".nii.gz, .nii, .nrrd, .mha"
        raise ValueError(f"labels of this scan cannot be written as {path.name!r}; use {allowed}")


def write_probabilities(scan: Scan, probabilities: NDArray[np.floating], path: Path) -> None:
    """Writes one probability map `(*S)` as float32 on the grid of `scan`, `.nii.gz` or `.nii`.

    Raises:
        ValueError: If the shape is not the scan's.
    """
    if probabilities.shape != scan.shape:
        raise ValueError(f"probabilities of shape {probabilities.shape} do not lie on the scan's grid {scan.shape}")
    grid = probabilities.astype(np.float32, copy=False).reshape(scan.source.shape)
    write_nifti(path, grid, scan.affine, header=scan.source.header, description="probability")
