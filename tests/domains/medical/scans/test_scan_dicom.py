"""DICOM: order, place, values, stacks, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domains.medical.scans.discovery import discover
from domains.medical.scans.reading import read_scan
from pipelines.errors import CaseError

SeriesWriter = Callable[..., list[Path]]


@pytest.fixture
def slices() -> np.ndarray:
    """`(slices, rows, columns)`, all different."""
    return np.arange(7 * 4 * 3, dtype=np.int16).reshape(7, 4, 3)


def test_slices_are_ordered_by_position_not_by_name_or_number(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray
) -> None:
    shuffled = [3, 6, 0, 5, 1, 4, 2]
    write_series(
        tmp_path / "s",
        slices[shuffled],
        positions=[(10.0, 20.0, -5.0 + 2.5 * index) for index in shuffled],
        names=[f"IM{number}" for number in range(7)],
        each=lambda dataset, index: setattr(dataset, "InstanceNumber", 7 - index),
    )
    scan = read_scan(tmp_path / "s")
    assert np.array_equal(scan.array[0], slices.transpose(2, 1, 0))  # (columns, rows, slices)
    assert scan.spacing == pytest.approx((0.5, 0.75, 2.5))
    # LPS (10, 20, -5) is RAS (-10, -20, -5); columns run to the left, rows to the back.
    assert np.allclose(scan.affine, [[-0.5, 0, 0, -10], [0, -0.75, 0, -20], [0, 0, 2.5, -5], [0, 0, 0, 1]])
    assert scan.orientation == ("L", "P", "S")


def test_oblique_series_agrees_with_simpleitk(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    import SimpleITK

    right, down = np.array([0.8, 0.6, 0]), np.array([0.36, -0.48, 0.8])
    normal = np.cross(right, down)
    paths = write_series(
        tmp_path / "s",
        slices,
        positions=[tuple(np.array([5.0, 6, 7]) + 3.0 * index * normal) for index in range(7)],
        ImageOrientationPatient=[float(value) for value in (*right, *down)],
    )
    scan = read_scan(tmp_path / "s")
    image = SimpleITK.ReadImage([str(path) for path in paths])
    for index in ((0, 0, 0), (2, 3, 6), (1, 2, 3)):
        x, y, z = image.TransformIndexToPhysicalPoint(index)
        assert np.allclose((scan.affine @ (*index, 1))[:3], (-x, -y, z), atol=1e-3)


def test_rescaling_of_each_slice(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    def rescale(dataset: Any, index: int) -> None:
        dataset.RescaleSlope, dataset.RescaleIntercept = 1.5 + index, -100

    write_series(tmp_path / "s", slices, each=rescale)
    expected = slices * (1.5 + np.arange(7))[:, None, None] - 100
    assert np.allclose(read_scan(tmp_path / "s").array[0], expected.transpose(2, 1, 0))


@pytest.mark.parametrize(("modality", "turned"), [("DX", True), ("CT", False), ("MR", False)])
def test_monochrome1_is_turned_over_unless_values_are_measured(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray, modality: str, turned: bool
) -> None:
    write_series(
        tmp_path / "s", slices, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=0, BitsStored=12,
        HighBit=11, Modality=modality,
    )  # fmt: skip
    assert read_scan(tmp_path / "s").array[0, 0, 0, 0] == (4095 if turned else 0)


def test_a_tilted_gantry_is_a_shear(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    write_series(tmp_path / "s", slices, step=(0.0, 0.5, 2.0))
    scan = read_scan(tmp_path / "s")
    assert scan.is_sheared
    assert scan.notes == ("the gantry was tilted by 14.0 degrees; the grid is sheared",)
    assert scan.voxel_volume == pytest.approx(0.5 * 0.75 * 2.0)
    # The last slice is where its header says: LPS (10, 10 + 6 * 0.5, 10 + 6 * 2).
    assert np.allclose((scan.affine @ (0, 0, 6, 1))[:3], (-10, -13, 22))


def _place(gaps: list[float]) -> list[tuple[float, float, float]]:
    return [(0.0, 0.0, float(z)) for z in np.cumsum([0.0, *gaps])]


@pytest.mark.parametrize(
    ("gaps", "reason"),
    [
        pytest.param(
            [5, 5, 10, 5, 5, 5], r"1 slice missing: the gap is 5.00 mm, but wider after slice 3 \(10.00 mm\)", id="one"
        ),
        pytest.param([5, 15, 5, 10, 5, 5], "3 slices missing", id="several"),
        pytest.param([1.08, 4, 4, 7, 7, 7], "slice gaps vary from 1.08 to 7.00 mm", id="uneven"),
        pytest.param([10, 5, 5, 5, 5, 5], "1 slice missing", id="second"),
        pytest.param([5, 5, 5, 5, 5, 10], "1 slice missing", id="last but one"),
    ],
)
def test_gaps_are_named(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray, gaps: list[float], reason: str
) -> None:
    write_series(tmp_path / "s", slices, positions=_place(gaps))
    with pytest.raises(CaseError, match=reason):
        read_scan(tmp_path / "s")


def test_rounded_positions_are_even_enough(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    write_series(tmp_path / "s", slices, positions=[(0.0, 0.0, round(0.75 * index, 1)) for index in range(7)])
    assert read_scan(tmp_path / "s").spacing[2] == pytest.approx(0.75, abs=0.01)


def test_slices_off_a_line_are_refused(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    write_series(tmp_path / "s", slices, positions=[(3.0 * (index % 2), 0.0, 2.0 * index) for index in range(7)])
    with pytest.raises(CaseError, match="shifted sideways"):
        read_scan(tmp_path / "s")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"ImageOrientationPatient": [1, 0, 0, 1, 0, 0]}, "two perpendicular", id="parallel directions"),
        pytest.param({"ImageOrientationPatient": [0, 0, 0, 0, 0, 0]}, "not two perpendicular", id="no directions"),
        pytest.param({"PixelSpacing": [0, 0.5]}, "spacing is missing or not above 0", id="no spacing of rows"),
        pytest.param({"PixelSpacing": None}, "pixel spacing is missing", id="no spacing"),
        pytest.param({"ImagePositionPatient": None}, "stacks of slices where one was expected", id="no positions"),
        pytest.param({"PixelData": b"\0" * 6}, "cannot be decoded", id="too few pixels"),
        pytest.param({"Rows": 0}, "not an image", id="no rows"),
        pytest.param({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.481.2"}, "RT dose, not an image", id="dose"),
        pytest.param({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11", "Rows": 0}, "Basic Text SR", id="report"),
    ],
)
def test_headers_that_do_not_do(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray, fields: dict[str, Any], reason: str
) -> None:
    write_series(tmp_path / "s", slices, **fields)
    with pytest.raises(CaseError, match=reason) as caught:
        read_scan(tmp_path / "s")
    assert caught.value.hint
    assert "Doe" not in str(caught.value)


def test_a_copy_of_a_file_is_left_out(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    paths = write_series(tmp_path / "s", slices)
    (tmp_path / "s" / "copy.dcm").write_bytes(paths[2].read_bytes())
    scan = read_scan(tmp_path / "s")
    assert scan.shape == (3, 4, 7)
    assert scan.notes == ("1 files are copies of others and left out",)


def test_another_image_at_the_same_position_is_a_problem(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray
) -> None:
    write_series(tmp_path / "s", slices, positions=_place([2, 2, 0, 2, 2, 2]))
    with pytest.raises(CaseError, match=r"duplicate slice positions: 7 images at 6 positions.*\(0.00, 0.00, 4.00\) mm"):
        read_scan(tmp_path / "s")


@pytest.mark.parametrize("field", ["AcquisitionNumber", "EchoTime", "TemporalPositionIdentifier", "DiffusionBValue"])
def test_phases_in_one_series_are_items_of_their_own(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray, field: str
) -> None:
    both = np.concatenate([slices, slices + 500])
    write_series(
        tmp_path / "s",
        both,
        positions=[(0.0, 0.0, 2.0 * (index % 7)) for index in range(14)],
        each=lambda dataset, index: (
            setattr(dataset, field, 1 + index // 7),
            setattr(dataset, "AcquisitionTime", f"10{index:04}"),
        ),
    )
    items = discover([tmp_path])
    assert [len(item.paths) for item in items] == [7, 7]
    assert len({item.item_id for item in items}) == 2
    lowest = sorted(read_scan(item).array.min() for item in items)
    assert lowest == [0, 500]
    with pytest.raises(CaseError, match="2 series or stacks"):
        read_scan(tmp_path / "s")


def test_a_localiser_among_the_slices_is_an_item_of_its_own(
    tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray
) -> None:
    def turn(dataset: Any, index: int) -> None:
        if index == 6:
            dataset.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]

    write_series(tmp_path / "s", slices, each=turn)
    shapes = sorted(read_scan(item).shape for item in discover([tmp_path]))
    assert shapes == [(3, 4, 1), (3, 4, 6)]


def _multi_frame(path: Path, planes: np.ndarray, phases: int = 1) -> None:
    """An enhanced MR file: frames in reverse order of position, phases one after the other."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian

    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID = EnhancedMRImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID = "1.2.3.9"
    dataset.SeriesInstanceUID, dataset.StudyInstanceUID, dataset.FrameOfReferenceUID = "1.2.3.6", "1.2.3.7", "1.2.3.8"
    dataset.Modality, dataset.SeriesNumber, dataset.PatientName, dataset.PatientID = "MR", 3, "Doe^Jane", "ID123456"
    dataset.NumberOfFrames, dataset.Rows, dataset.Columns = planes.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PixelRepresentation = 1, "MONOCHROME2", 0
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    shared, measures, orientation, values = Dataset(), Dataset(), Dataset(), Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2.0
    orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    values.RescaleSlope, values.RescaleIntercept = 2, 1
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [orientation]
    shared.PixelValueTransformationSequence = [values]
    dataset.SharedFunctionalGroupsSequence = [shared]
    frames = []
    count = len(planes) // phases
    for index in range(len(planes)):
        frame, position, content = Dataset(), Dataset(), Dataset()
        position.ImagePositionPatient = [0, 0, 2.0 * (count - 1 - index % count)]
        content.TemporalPositionIndex = 1 + index // count
        frame.PlanePositionSequence, frame.FrameContentSequence = [position], [content]
        frames.append(frame)
    dataset.PerFrameFunctionalGroupsSequence = frames
    dataset.PixelData = np.ascontiguousarray(planes.astype("<u2")).tobytes()
    dataset.save_as(path, enforce_file_format=True)


def test_enhanced_multi_frame(tmp_path: Path, slices: np.ndarray) -> None:
    _multi_frame(tmp_path / "e", slices)
    scan = read_scan(tmp_path / "e")
    assert np.array_equal(scan.array[0], slices[::-1].transpose(2, 1, 0) * 2 + 1)
    assert scan.spacing == pytest.approx((0.5, 0.75, 2.0))


def test_phases_of_a_multi_frame_file(tmp_path: Path, slices: np.ndarray) -> None:
    _multi_frame(tmp_path / "e", np.concatenate([slices, slices + 500]), phases=2)
    items = discover([tmp_path])
    assert {item.detail["phase"] for item in items} == {"TemporalPositionIndex=1", "TemporalPositionIndex=2"}
    scans = sorted((read_scan(item) for item in items), key=lambda scan: float(scan.array.min()))
    assert np.array_equal(scans[1].array[0], (slices + 500)[::-1].transpose(2, 1, 0) * 2 + 1)


def test_colour_is_refused_where_one_channel_is_expected_and_read_where_three_are(data_root: Path) -> None:
    path = data_root / "clinical_scans/dicom_zoo/SC_rgb.dcm"
    with pytest.raises(CaseError, match=r"colour image \(RGB\); 1 channel was expected"):
        read_scan(path)
    scan = read_scan(path, channels=3)
    assert scan.array.shape == (3, 100, 100)
    assert scan.is_2d
    assert scan.orientation == ()


def test_files_without_preamble_and_garbage(tmp_path: Path, write_series: SeriesWriter, slices: np.ndarray) -> None:
    paths = write_series(tmp_path / "s", slices)
    (tmp_path / "s" / "notes").write_text("not DICOM")
    (tmp_path / "s" / "zeros").write_bytes(bytes(500))
    cut = paths[3].read_bytes()
    assert read_scan(tmp_path / "s").shape == (3, 4, 7)
    for length in range(0, len(cut), 37):
        paths[3].write_bytes(cut[:length])
        with pytest.raises(CaseError):
            read_scan(paths[3])
