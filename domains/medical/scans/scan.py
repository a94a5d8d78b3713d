"""The one form in which every scan is held, whatever file it came from.

    scan = read_scan(path)          # any format
    scan.array                      # (C, *S) float32
    scan.affine                     # (4, 4) voxel index → millimetres, RAS
    scan.spacing                    # one number for each spatial axis, mm

A volume has the axes of its file, first axis first: `(C, X, Y, Z)` for NIfTI, NRRD and MetaImage, `(C, columns, rows,
slices)` for DICOM. A picture (PNG, TIFF, JPEG, a radiograph) is `(C, H, W)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Scan", "SourceGeometry", "SourceKind", "Reading", "affine_problem"]

SourceKind = Literal["nifti", "itk", "dicom", "picture"]


@dataclass(frozen=True)
class SourceGeometry:
    """What a writer needs to lay a result over the file that a scan came from.

    Attributes:
        kind: Which reader read it.
        shape: Spatial shape in the file, singleton axes included.
        header: The NIfTI header as it was read (348 or 540 bytes, in the file's byte order); empty for other kinds.
        paths: The files, in the order of the slices.
        frames: For DICOM, `(index in paths, frame number from 1)` of each slice.
    """

    kind: SourceKind
    shape: tuple[int, ...]
    header: bytes = b""
    paths: tuple[Path, ...] = ()
    frames: tuple[tuple[int, int], ...] = ()


class Reading(NamedTuple):
    """What a reader of one format found.

    Attributes:
        array: `(C, *S)`, any real dtype.
        affine: `(4, 4)`, voxel → RAS mm.
        source: Where it came from.
        notes: What had to be decided.
    """

    array: NDArray[Any]
    affine: NDArray[np.float64]
    source: SourceGeometry
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Scan:
    """An image with its place in the patient.

    Args:
        array: `(C, *S)`, two or three spatial axes. Readers give float32; the memory order is not promised.
        affine: `(4, 4)` float64, voxel index → mm in RAS (right, anterior, superior). A gantry tilt is a shear in it.
            For a picture it is the pixel size on the diagonal: `(row, column)` → `(down, right)`.
        source: Where it came from.
        notes: What a reader had to decide, in sentences for a log.

    Raises:
        ValueError: If the array has no channel or no voxels, or the affine cannot be inverted.
    """

    array: NDArray[Any] = field(repr=False)
    affine: NDArray[np.float64]
    source: SourceGeometry
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.array.ndim not in (3, 4):
            raise ValueError(
                f"array of shape {self.array.shape} has {self.array.ndim} axes; expected (C, H, W) or (C, X, Y, Z)"
            )
        if 0 in self.array.shape:
            raise ValueError(f"array of shape {self.array.shape} is empty")
        if problem := affine_problem(self.affine):
            raise ValueError(problem)

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape `*S`."""
        return tuple(self.array.shape[1:])

    @property
    def channels(self) -> int:
        """Number of channels `C`."""
        return int(self.array.shape[0])

    @property
    def is_2d(self) -> bool:
        """Whether the array has two spatial axes."""
        return self.array.ndim == 3

    @property
    def spacing(self) -> tuple[float, ...]:
        """Distance between neighbouring voxels along each spatial axis, mm (pixels where a picture tells no size)."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(length) for length in lengths[: len(self.shape)])

    @property
    def voxel_volume(self) -> float:
        """Volume of a voxel in mm³ (area of a pixel in mm² for two axes); right for sheared grids too."""
        if self.is_2d:
            return float(np.linalg.norm(np.cross(self.affine[:3, 0], self.affine[:3, 1])))
        return float(abs(np.linalg.det(self.affine[:3, :3])))

    @property
    def orientation(self) -> tuple[str, ...]:
        """Where each spatial axis points: `('R', 'A', 'S')` and the like; empty for what has no place in a patient."""
        if self.source.kind == "picture" or (self.source.kind == "dicom" and self.is_2d):
            return ()
        import nibabel

        return tuple(nibabel.aff2axcodes(self.affine)[: len(self.shape)])

    @property
    def is_sheared(self) -> bool:
        """Whether the axes are not at right angles (a tilted gantry), by more than 0.06 degrees."""
        directions = self.affine[:3, :3] / np.linalg.norm(self.affine[:3, :3], axis=0)
        return bool(np.abs(directions.T @ directions - np.eye(3)).max() > 1e-3)


def affine_problem(affine: NDArray[np.floating]) -> str:
    """Why `(4, 4)` numbers cannot be a voxel-to-millimetre affine; empty when they can."""
    if affine.shape != (4, 4):
        return f"affine has shape {affine.shape}; expected (4, 4)"
    if not np.isfinite(affine).all():
        return "affine holds values that are not finite"
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if (lengths <= 0).any():
        return f"voxel spacing is zero: {tuple(round(float(length), 6) for length in lengths)} mm"
    if abs(np.linalg.det(affine[:3, :3])) < 1e-4 * math.prod(lengths):
        return "affine is singular: its axes lie in one plane"
    if not np.allclose(affine[3], (0, 0, 0, 1)):
        return f"last row of the affine is {affine[3].tolist()}; expected [0, 0, 0, 1]"
    return ""
