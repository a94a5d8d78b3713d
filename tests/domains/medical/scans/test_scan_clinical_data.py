"""Everything in the real collection gives a scan or a named reason; SimpleITK is the oracle of places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from domains.medical.scans.discovery import discover
from domains.medical.scans.reading import read_labels, read_scan
from domains.medical.scans.scan import Scan
from domains.medical.scans.volumes import volumes_ml
from pipelines.errors import CaseError


def _same_place(scan: Scan, paths: list[Path]) -> None:
    import SimpleITK

    image = SimpleITK.ReadImage([str(path) for path in paths] if len(paths) > 1 else str(paths[0]))
    assert image.GetSize()[:3] == scan.shape
    rng = np.random.default_rng(0)
    corners = [(0, 0, 0), tuple(length - 1 for length in scan.shape)]
    for index in corners + [tuple(int(rng.integers(length)) for length in scan.shape) for _ in range(10)]:
        x, y, z = image.TransformIndexToPhysicalPoint([int(part) for part in index])
        assert np.allclose((scan.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-3)
        assert scan.array[(0, *index)] == pytest.approx(image[[int(part) for part in index]], rel=1e-5, abs=1e-3)


def test_everything_gives_a_scan_or_a_reason(data_root: Path) -> None:
    items = discover([data_root / "clinical_scans"])
    outcomes = {}
    for item in items:
        try:
            outcomes[item.item_id] = read_scan(item)
        except CaseError as error:
            outcomes[item.item_id] = error.reason
    assert all(value if isinstance(value, str) else isinstance(value, Scan) for value in outcomes.values())
    by_name = {name.rpartition("-")[0] if "dicom_" in name else name: value for name, value in outcomes.items()}
    assert by_name["dicom_mr_hippocrop_study1"].shape == (35, 51, 32)
    assert by_name["dicom_mr_hippocrop_study2"].shape == (36, 48, 35)
    assert by_name["dicom_ct_body_jpeg2000"].shape == (512, 512, 20)
    assert by_name["dicom_ct_head_ge_gantrytilt_variablespacing-s2"] == "slice gaps vary from 1.08 to 7.00 mm"
    assert by_name["nifti_niivue_pcasl"].startswith("4-D image of 10 volumes")
    assert by_name["nifti_rgb_report"].startswith("RGB colour voxels")
    assert not any("totalseg" in name or "label" in name for name in outcomes)
    listed = {path for item in items for path in item.paths}
    zoo = {path for path in (data_root / "clinical_scans/dicom_zoo").iterdir() if path.is_file()}
    assert zoo <= listed


def test_each_file_of_the_zoo_alone(data_root: Path) -> None:
    scans, reasons = {}, {}
    for path in sorted((data_root / "clinical_scans/dicom_zoo").glob("*.dcm")):
        try:
            scans[path.stem] = read_scan(path)
        except CaseError as error:
            reasons[path.stem] = error.reason
    assert all(0 < len(reason) < 200 for reason in reasons.values())
    assert len(scans) + len(reasons) == 91
    assert len(scans) >= 25
    # One image in eight codings: all decoders agree.
    copies = [scan for name, scan in scans.items() if name.startswith("MR_small")]
    assert len(copies) == 7
    assert all(np.array_equal(scan.array, copies[0].array) for scan in copies)
    assert "number of bytes of pixel data is less than expected" in reasons["MR_truncated"]
    assert "no transfer syntax" in reasons["meta_missing_tsyntax"]
    assert reasons["rtdose"] == "RT dose, not an image"


@pytest.mark.parametrize("study", ["mr_hippocrop_study1", "mr_hippocrop_study2", "ct_body_jpeg2000"])
def test_series_lie_where_simpleitk_puts_them(data_root: Path, study: str) -> None:
    scan = read_scan(data_root / "clinical_scans/dicom" / study)
    _same_place(scan, list(scan.source.paths))


@pytest.mark.parametrize("pattern", ["nifti/*.nii.gz", "nrrd/*.nrrd"])
def test_volumes_lie_where_simpleitk_puts_them(data_root: Path, pattern: str) -> None:
    seen = 0
    for path in sorted((data_root / "clinical_scans").glob(pattern)):
        try:
            scan = read_scan(path)
        except CaseError:
            continue
        _same_place(scan, [path])
        seen += 1
    assert seen >= 4


def test_single_slices_lie_where_simpleitk_puts_them(data_root: Path) -> None:
    for name in ("693_UNCR", "MR_small", "MR2_J2KI", "explicit_VR-UN"):
        path = data_root / f"clinical_scans/dicom_zoo/{name}.dcm"
        _same_place(read_scan(path), [path])


def test_decathlon_images_and_labels(data_root: Path) -> None:
    images = sorted((data_root / "msd_hippocampus/imagesTr").glob("*.nii.gz"))[:60]
    for path in images:
        scan, labels = read_scan(path), read_labels(data_root / "msd_hippocampus/labelsTr" / path.name)
        assert scan.shape == labels.shape
        assert set(np.unique(labels.array)) <= {0, 1, 2}
        volumes = volumes_ml(labels.array[0], scan.spacing, ["anterior", "posterior"])
        assert 0.5 < volumes["anterior"] < 5


def test_fundus_pictures(data_root: Path) -> None:
    folder = data_root / "drive_retina/training"
    items = discover([folder])
    assert len(items) == 20
    assert all(read_scan(item, channels=3).array.shape == (3, 584, 565) for item in items[:3])
    mask = read_labels(sorted((folder / "1st_manual").iterdir())[0])
    assert set(np.unique(mask.array)) == {0, 1}
