"""A DICOM SEG read back holds the same labels at the same places in the patient."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domains.medical.scans.dicom_seg import can_be_dicom_seg, write_dicom_seg
from domains.medical.scans.discovery import discover
from domains.medical.scans.reading import read_scan
from domains.medical.scans.scan import Scan

SeriesWriter = Callable[..., list[Path]]


def _read_back(path: Path, scan: Scan) -> np.ndarray:
    """Labels on the grid of the scan, by the positions that the SEG itself gives to its frames."""
    import highdicom

    segmentation = highdicom.seg.segread(path)
    result = np.zeros(scan.shape, dtype=np.uint8)
    inverse = np.linalg.inv(scan.affine)
    for frame, groups in enumerate(segmentation.PerFrameFunctionalGroupsSequence):
        x, y, z = groups.PlanePositionSequence[0].ImagePositionPatient
        index = np.rint(inverse @ (-x, -y, z, 1)).astype(int)
        assert index[:2].tolist() == [0, 0]
        # What all frames share stands in one place, also the segment.
        named = groups if "SegmentIdentificationSequence" in groups else segmentation.SharedFunctionalGroupsSequence[0]
        segment = named.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        pixels = segmentation.pixel_array.reshape(-1, *scan.shape[1::-1])[frame]
        result[..., index[2]][pixels.T > 0] = segment
    return result


@pytest.mark.parametrize("step", [(0.0, 0.0, 2.0), (0.0, 0.0, -3.0), (0.0, 0.5, 2.0)], ids=["up", "down", "tilted"])
def test_labels_return_to_their_slices(
    tmp_path: Path, write_series: SeriesWriter, step: tuple[float, float, float]
) -> None:
    rng = np.random.default_rng(0)
    write_series(
        tmp_path / "s", rng.integers(0, 900, (9, 16, 12)), step=step, names=[f"{n:x}" for n in rng.permutation(9)]
    )
    scan = read_scan(tmp_path / "s")
    labels = rng.integers(0, 4, scan.shape).astype(np.uint8)
    labels[..., [0, 4, 8]] = 0  # empty slices first, in the middle and last
    labels[labels == 2] = 0  # a class that is nowhere
    write_dicom_seg(scan, labels, tmp_path / "seg.dcm", ["liver", "nowhere", "spleen"], algorithm_version="1.2")
    assert np.array_equal(_read_back(tmp_path / "seg.dcm", scan), labels)


def test_highdicom_itself_finds_the_labels_by_source_image(tmp_path: Path, write_series: SeriesWriter) -> None:
    import highdicom

    rng = np.random.default_rng(0)
    write_series(tmp_path / "s", rng.integers(0, 900, (5, 16, 12)))
    scan = read_scan(tmp_path / "s")
    labels = rng.integers(0, 3, scan.shape).astype(np.uint8)
    labels[..., 2] = 0
    write_dicom_seg(scan, labels, tmp_path / "seg.dcm", ["a", "b"])
    segmentation = highdicom.seg.segread(tmp_path / "seg.dcm")
    uids = [f"1.2.826.0.1.3680043.8.498.1.1.{number}" for number in range(1, 6)]
    pixels = segmentation.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True
    )
    assert np.array_equal(pixels, labels.transpose(2, 1, 0))
    assert [segment.SegmentLabel for segment in segmentation.SegmentSequence] == ["a", "b"]


def test_nothing_found_is_still_a_valid_object(tmp_path: Path, write_series: SeriesWriter) -> None:
    write_series(tmp_path / "s", np.arange(5 * 16 * 12).reshape(5, 16, 12))
    scan = read_scan(tmp_path / "s")
    write_dicom_seg(scan, np.zeros(scan.shape, np.uint8), tmp_path / "seg.dcm", ["a"])
    assert not _read_back(tmp_path / "seg.dcm", scan).any()


def test_our_own_object_is_no_input(tmp_path: Path, write_series: SeriesWriter) -> None:
    write_series(tmp_path / "s", np.arange(5 * 16 * 12).reshape(5, 16, 12))
    scan = read_scan(tmp_path / "s")
    write_dicom_seg(scan, np.ones(scan.shape, np.uint8), tmp_path / "s" / "seg.dcm", ["a"])
    assert [len(item.paths) for item in discover([tmp_path])] == [5]


def test_real_series_without_series_and_study_identifiers(tmp_path: Path, data_root: Path) -> None:
    scan = read_scan(data_root / "clinical_scans/dicom/ct_body_jpeg2000")
    labels = np.zeros(scan.shape, np.uint8)
    labels[100:300, 50:200, 3:9] = 1
    labels[150:180, 90:120, 11] = 2
    write_dicom_seg(scan, labels, tmp_path / "seg.dcm", ["one", "two"])
    assert np.array_equal(_read_back(tmp_path / "seg.dcm", scan), labels)


def test_what_cannot_be_a_seg_is_said(tmp_path: Path, data_root: Path) -> None:
    scan = read_scan(data_root / "clinical_scans/dicom_zoo/RG3_J2KI.dcm")
    assert not can_be_dicom_seg(scan)
    with pytest.raises(ValueError, match="DICOM slices with positions"):
        write_dicom_seg(scan, np.zeros(scan.shape, np.uint8), tmp_path / "seg.dcm", ["a"])
