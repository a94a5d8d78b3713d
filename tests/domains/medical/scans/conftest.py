"""Small scans in every format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

SeriesWriter = Callable[..., list[Path]]


@pytest.fixture
def volume() -> np.ndarray:
    """`(X, Y, Z)` int16 in which every voxel is different."""
    return np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)


@pytest.fixture
def affine() -> np.ndarray:
    """An oblique affine with a negative determinant and unequal spacing."""
    angle = 0.3
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-0.8, 1.1, 2.5])
    affine[:3, 3] = (12.0, -30.5, 7.25)
    return affine


@pytest.fixture
def write_series() -> SeriesWriter:
    """Writes a DICOM series: `write_series(folder, voxels (slices, rows, columns), **header fields)`."""
    return _write_series


def _write_series(
    folder: Path,
    voxels: np.ndarray,
    *,
    step: tuple[float, float, float] = (0.0, 0.0, 2.0),
    positions: list[tuple[float, float, float]] | None = None,
    series_uid: str = "1.2.826.0.1.3680043.8.498.1",
    names: list[str] | None = None,
    each: Callable[[Any, int], None] | None = None,
    **fields: Any,
) -> list[Path]:
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index, plane in enumerate(voxels):
        dataset = Dataset()
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = MRImageStorage
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = (
            f"{series_uid}.{len(folder.name)}.{index + 1}"
        )
        dataset.SeriesInstanceUID, dataset.StudyInstanceUID = series_uid, "1.2.3.4"
        dataset.FrameOfReferenceUID = "1.2.3.5"
        dataset.Modality, dataset.SeriesNumber, dataset.InstanceNumber = "MR", 7, index + 1
        dataset.PatientName, dataset.PatientID = "Doe^Jane", "ID123456"
        dataset.Rows, dataset.Columns = plane.shape
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        place = positions[index] if positions else tuple(10.0 + index * part for part in step)
        dataset.ImagePositionPatient = [f"{value:.6f}" for value in place]
        dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.75, 0.5], 2.0
        dataset.PixelData = np.ascontiguousarray(plane.astype("<i2")).tobytes()
        for keyword, value in fields.items():
            if value is None:
                delattr(dataset, keyword)
            else:
                setattr(dataset, keyword, value)
        if each is not None:
            each(dataset, index)
        path = folder / (names[index] if names else f"{index + 1}.dcm")
        dataset.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
