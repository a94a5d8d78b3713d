"""NIfTI: what is read, what is refused and why, and that headers survive."""

from __future__ import annotations

import gzip
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from domains.medical.scans.reading import read_labels, read_scan
from domains.medical.scans.writing import write_labels
from pipelines.errors import CaseError


def _save(
    path: Path, data: np.ndarray, affine: np.ndarray | None = None, change: Callable[[Any], None] | None = None
) -> Path:
    image = nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine, dtype=data.dtype)
    if change is not None:
        change(image.header)
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "A.NII.GZ", "a.hdr", "a.img"])
def test_endings(tmp_path: Path, volume: np.ndarray, affine: np.ndarray, name: str) -> None:
    image_class = nibabel.Nifti1Pair if name[-3:] in ("hdr", "img") else nibabel.Nifti1Image
    path = tmp_path / name
    nibabel.save(image_class(volume, affine), tmp_path / name.lower())
    (tmp_path / name.lower()).rename(path) if name != name.lower() else None
    scan = read_scan(path)
    assert scan.array.dtype == np.float32
    assert np.array_equal(scan.array[0], volume)
    assert np.allclose(scan.affine, affine, atol=1e-5)
    assert np.allclose(scan.spacing, (0.8, 1.1, 2.5))
    assert scan.orientation == ("L", "A", "S")


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "u2", "i4", "u4", "f4", ">f4", "f8", ">f8", "i8"])
def test_voxel_types_and_byte_orders(tmp_path: Path, volume: np.ndarray, dtype: str) -> None:
    data = volume.astype(dtype)
    image = nibabel.Nifti1Image(data, np.eye(4), dtype=data.dtype)
    if dtype.startswith(">"):
        image = nibabel.Nifti1Image(data, np.eye(4), header=nibabel.Nifti1Header(endianness=">"), dtype=data.dtype)
    nibabel.save(image, tmp_path / "a.nii.gz")
    scan = read_scan(tmp_path / "a.nii.gz")
    assert scan.array.dtype == np.dtype(np.float32)
    assert np.array_equal(scan.array[0], volume)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_slope_and_intercept_are_applied(tmp_path: Path, volume: np.ndarray, name: str) -> None:
    content = bytearray(_save(tmp_path / "plain.nii", volume).read_bytes())
    content[112:120] = struct.pack("<ff", 2.5, -1024.0)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert np.allclose(read_scan(path).array[0], volume * 2.5 - 1024)


@pytest.mark.parametrize(("unit", "factor"), [("meter", 1000.0), ("micron", 0.001), ("mm", 1.0), ("unknown", 1.0)])
def test_units_become_millimetres(tmp_path: Path, volume: np.ndarray, unit: str, factor: float) -> None:
    path = _save(tmp_path / "a.nii", volume, np.diag([2.0, 3, 4, 1]), lambda header: header.set_xyzt_units(unit))
    assert np.allclose(read_scan(path).spacing, np.array([2, 3, 4]) * factor)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param((6, 5), (6, 5), id="two axes"),
        pytest.param((6, 5, 1), (6, 5, 1), id="one slice"),
        pytest.param((6, 5, 4, 1), (6, 5, 4), id="4-D, one volume"),
        pytest.param((6, 5, 4, 1, 1), (6, 5, 4), id="5-D of singletons"),
    ],
)
def test_singleton_axes(tmp_path: Path, shape: tuple[int, ...], expected: tuple[int, ...]) -> None:
    path = _save(tmp_path / "a.nii.gz", np.arange(np.prod(shape), dtype=np.int16).reshape(shape))
    scan = read_scan(path)
    assert scan.shape == expected
    write_labels(scan, np.ones(expected, dtype=np.uint8), tmp_path / "l.nii.gz", ["a"])
    assert nibabel.load(tmp_path / "l.nii.gz").shape == shape[: max(2, min(len(shape), 3))]


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (6, 5, 4, 1, 3)])
def test_channels_come_first(tmp_path: Path, shape: tuple[int, ...]) -> None:
    data = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    scan = read_scan(_save(tmp_path / "a.nii", data), channels=3)
    assert scan.array.shape == (3, 6, 5, 4)
    assert np.array_equal(scan.array[2], data.reshape(6, 5, 4, 3)[..., 2])


def test_sform_counts_where_both_are_coded(tmp_path: Path, volume: np.ndarray) -> None:
    def disagree(header: Any) -> None:
        header.set_qform(np.diag([1.0, 1, 1, 1]), code=1)
        header.set_sform(np.array([[1.0, 0, 0, 40], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), code=2)

    image = nibabel.Nifti1Image(volume, None)
    disagree(image.header)
    nibabel.save(image, tmp_path / "a.nii")
    scan = read_scan(tmp_path / "a.nii")
    assert scan.affine[0, 3] == 40
    assert any("40.00 apart" in note for note in scan.notes)


def test_qform_counts_where_the_sform_is_not_coded_or_singular(
    tmp_path: Path, volume: np.ndarray, affine: np.ndarray
) -> None:
    for name, code in (("uncoded", 0), ("singular", 1)):
        image = nibabel.Nifti1Image(volume, None)
        image.header.set_qform(affine, code=1)
        image.header["sform_code"] = code
        nibabel.save(image, tmp_path / f"{name}.nii")
        assert np.allclose(read_scan(tmp_path / f"{name}.nii").affine, affine, atol=1e-5), name


def test_voxels_that_are_not_finite_are_filled_and_counted(tmp_path: Path, volume: np.ndarray) -> None:
    data = volume.astype(np.float32) - 50
    data[0, 0, :3] = np.nan, np.inf, -np.inf
    scan = read_scan(_save(tmp_path / "a.nii", data))
    assert np.isfinite(scan.array).all()
    assert scan.array[0, 0, 0, 0] == -47  # the smallest finite value
    assert scan.notes == ("3 of 120 voxels are NaN or infinite; they are read as the smallest finite value, -47",)


def _break_gzip(path: Path) -> None:
    rng = np.random.default_rng(0)
    _save(path, rng.integers(0, 30000, (20, 20, 20), dtype=np.int16))
    path.write_bytes(path.read_bytes()[:5000])


def _cut_plain(path: Path) -> None:
    _save(path, np.arange(8000, dtype=np.int16).reshape(20, 20, 20))
    path.write_bytes(path.read_bytes()[:5000])


def _huge(path: Path) -> None:
    header = nibabel.Nifti1Header()
    header.set_data_shape((30000, 30000, 3000))
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    content = header.binaryblock + b"\0" * 100
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def _rgb(path: Path) -> None:
    nibabel.save(
        nibabel.Nifti1Image(np.zeros((4, 4, 4), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")]), np.eye(4)), path
    )


def _corrupt_checksum(path: Path) -> None:
    _save(path, np.arange(8000, dtype=np.int16).reshape(20, 20, 20))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def _singular(path: Path) -> None:
    affine = np.eye(4)
    affine[:3, 2] = affine[:3, 1]
    image = nibabel.Nifti1Image(np.arange(64.0).reshape(4, 4, 4), None)
    image.header.set_sform(affine, code=1)
    nibabel.save(image, path)


def _nan_affine(path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(64.0).reshape(4, 4, 4), None)
    image.header.set_sform(np.full((4, 4), np.nan), code=1)
    nibabel.save(image, path)


def _zero_spacing(path: Path) -> None:
    image = nibabel.Nifti1Image(np.arange(64.0).reshape(4, 4, 4), None)
    image.header.set_sform(np.diag([1.0, 1, 0, 1]), code=1)
    nibabel.save(image, path)


REFUSED = [
    pytest.param("a.nii.gz", _break_gzip, "truncated or corrupt", id="gzip cut"),
    pytest.param("a.nii.gz", _corrupt_checksum, "truncated or corrupt", id="gzip with a flipped byte"),
    pytest.param("a.nii", _cut_plain, "truncated or corrupt", id="cut"),
    pytest.param("a.nii", lambda path: path.write_bytes(b""), "empty file", id="no bytes"),
    pytest.param(
        "a.nii.gz", lambda path: path.write_bytes(gzip.compress(b"")), "not a NIfTI|truncated", id="empty gzip"
    ),
    pytest.param("a.nii", lambda path: path.write_text("not an image, " * 100), "not a NIfTI file", id="text"),
    pytest.param(
        "a.nii.gz", lambda path: path.write_text("not an image, " * 100), "not a NIfTI file|truncated", id="text as gz"
    ),
    pytest.param("a.nii", _huge, "announces", id="more voxels than bytes"),
    pytest.param("a.nii.gz", _huge, "announces", id="more voxels than a gzip can hold"),
    pytest.param("a.nii", lambda path: _save(path, np.zeros((4, 4, 4, 7), "i2")), "4-D image of 7 volumes", id="4-D"),
    pytest.param("a.nii", _rgb, "RGB colour voxels", id="RGB"),
    pytest.param("a.nii", lambda path: _save(path, np.ones((4, 4, 4), "c8")), "complex voxels", id="complex"),
    pytest.param(
        "a.nii",
        lambda path: _save(path, np.full((4, 4, 4), 3, "i2")),
        "constant image: every voxel is 3",
        id="constant",
    ),
    pytest.param("a.nii", lambda path: _save(path, np.full((4, 4, 4), np.nan, "f4")), "is a finite", id="only NaN"),
    pytest.param("a.nii", _singular, "affine is singular", id="singular affine"),
    pytest.param("a.nii", _nan_affine, "affine holds values that are not finite", id="NaN in the affine"),
    pytest.param("a.nii", _zero_spacing, "voxel spacing is zero", id="no spacing"),
    pytest.param("a.nii", lambda path: None, "file not found", id="no file"),
    pytest.param("a.nii", lambda path: path.mkdir(), "folder", id="a folder with that name"),
    pytest.param("a.xyz", lambda path: path.write_text("hello"), "not a format that can be read", id="another format"),
]


@pytest.mark.parametrize(("name", "make", "reason"), REFUSED)
def test_refusals_have_a_reason_and_a_hint(tmp_path: Path, name: str, make: Callable[[Path], Any], reason: str) -> None:
    make(tmp_path / name)
    with pytest.raises(CaseError, match=reason) as caught:
        read_scan(tmp_path / name)
    assert caught.value.case_id
    assert caught.value.hint
    assert str(tmp_path) not in str(caught.value)


def test_a_pair_without_its_other_half(tmp_path: Path, volume: np.ndarray) -> None:
    nibabel.save(nibabel.Nifti1Pair(volume, np.eye(4)), tmp_path / "a.hdr")
    (tmp_path / "a.img").unlink()
    with pytest.raises(CaseError, match="incomplete pair"):
        read_scan(tmp_path / "a.hdr")


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        pytest.param([0, 1, 1.0000001, 1.9999999], np.uint8, id="nearly whole"),
        pytest.param([0, 300, 2, 1], np.uint16, id="above 255"),
        pytest.param([0, -1, 2, 1], np.int32, id="negative"),
        pytest.param([0, 0, 0, 0], np.uint8, id="nothing"),
    ],
)
def test_labels_are_whole_numbers(tmp_path: Path, values: list[float], dtype: type) -> None:
    path = _save(tmp_path / "l.nii.gz", np.array(values, dtype=np.float64).reshape(2, 2, 1))
    labels = read_labels(path)
    assert labels.array.dtype == dtype
    assert labels.array.ravel().tolist() == np.rint(values).tolist()


@pytest.mark.parametrize(
    ("value", "reason"), [(0.5, "not whole numbers"), (np.nan, "not whole numbers"), (1e12, "too large")]
)
def test_labels_that_are_no_labels(tmp_path: Path, value: float, reason: str) -> None:
    path = _save(tmp_path / "l.nii.gz", np.array([0, 1, value, 1.0]).reshape(2, 2, 1))
    with pytest.raises(CaseError, match=reason):
        read_labels(path)


@pytest.mark.parametrize("endianness", ["<", ">"])
@pytest.mark.parametrize("version", [nibabel.Nifti1Image, nibabel.Nifti2Image])
def test_the_header_of_a_label_map_is_that_of_the_scan(
    tmp_path: Path, volume: np.ndarray, affine: np.ndarray, version: Any, endianness: str
) -> None:
    image = version(volume, None, header=version.header_class(endianness=endianness))
    image.header.set_qform(affine, code=1)
    image.header.set_sform(affine + np.diag([0.01, 0, 0, 0]), code=4)
    image.header.set_xyzt_units("micron", "msec")
    image.header["descrip"] = b"Jane Doe"
    image.header["intent_name"] = b"Jane Doe"
    nibabel.save(image, tmp_path / "scan.nii.gz")
    scan = read_scan(tmp_path / "scan.nii.gz")
    labels = np.random.default_rng(1).integers(0, 3, volume.shape, dtype=np.uint8)
    write_labels(scan, labels, tmp_path / "labels.nii.gz", ["left", "right"])

    source, result = (nibabel.load(tmp_path / name) for name in ("scan.nii.gz", "labels.nii.gz"))
    assert type(source) is type(result)
    for name in ("pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z",
                 "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):  # fmt: skip
        assert np.array_equal(source.header[name], result.header[name]), name
    assert result.get_data_dtype() == np.uint8
    assert result.header.get_intent()[0] == "label"
    assert b"Jane" not in result.header.binaryblock
    assert np.array_equal(np.asarray(result.dataobj), labels)
    assert np.array_equal(read_labels(tmp_path / "labels.nii.gz").array[0], labels)
    assert np.array_equal(read_labels(tmp_path / "labels.nii.gz").affine, scan.affine)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        pytest.param(np.zeros((5, 5, 4), np.uint8), r"\(5, 5, 4\) do not lie on the .* grid \(6, 5, 4\)", id="shape"),
        pytest.param(np.full((6, 5, 4), 2), "from 2 to 2", id="a value without a class"),
        pytest.param(np.full((6, 5, 4), -1), "from -1", id="negative"),
        pytest.param(np.zeros((6, 5, 4)), "dtype float64", id="floats"),
    ],
)
def test_labels_that_do_not_fit_are_not_written(
    tmp_path: Path, volume: np.ndarray, labels: np.ndarray, message: str
) -> None:
    scan = read_scan(_save(tmp_path / "a.nii", volume))
    with pytest.raises(ValueError, match=message):
        write_labels(scan, labels, tmp_path / "l.nii.gz", ["only"])
    assert not (tmp_path / "l.nii.gz").exists()
