"""Whatever happens to the first bytes of a file, it gives a scan or a named reason, in bounded memory."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from domains.medical.scans.discovery import discover
from domains.medical.scans.reading import read_labels, read_scan
from pipelines.errors import CaseError

VOXELS = np.arange(6 * 5 * 4, dtype=np.int16).reshape(6, 5, 4)


def _nifti(path: Path, write_series: Callable[..., list[Path]]) -> None:
    nibabel.save(nibabel.Nifti1Image(VOXELS, np.eye(4)), path)


def _itk(path: Path, write_series: Callable[..., list[Path]]) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(VOXELS), str(path))


def _picture(path: Path, write_series: Callable[..., list[Path]]) -> None:
    Image.fromarray(VOXELS[..., 0].astype(np.uint8)).save(path)


def _dicom(path: Path, write_series: Callable[..., list[Path]]) -> None:
    write_series(path.parent, VOXELS[:1], names=[path.name])


@pytest.mark.parametrize(
    ("name", "make"),
    [("a.nii", _nifti), ("a.nii.gz", _nifti), ("a.nrrd", _itk), ("a.mha", _itk), ("a.png", _picture),
     ("a.tif", _picture), ("a.dcm", _dicom)],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_damage_is_a_reason(
    tmp_path: Path, write_series: Callable[..., list[Path]], name: str, make: Callable[..., None]
) -> None:
    path = tmp_path / name
    make(path, write_series)
    whole = path.read_bytes()
    assert read_scan(path).array.size > 0
    rng = np.random.default_rng(0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(40):
        damaged = bytearray(whole)
        for _ in range(rng.integers(1, 6)):
            damaged[rng.integers(min(len(damaged), 900))] = rng.integers(256)
        path.write_bytes(damaged)
        for read in (read_scan, read_labels, lambda source: discover([source])):
            try:
                read(path)
            except CaseError as error:
                assert error.reason  # noqa: PT017 - any outcome will do, but a silent one
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
