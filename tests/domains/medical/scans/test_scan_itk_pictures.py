"""NRRD, MetaImage and pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domains.medical.scans.reading import read_labels, read_scan
from domains.medical.scans.scan import Scan
from domains.medical.scans.writing import label_suffix, write_labels
from pipelines.errors import CaseError


def _itk_image(volume: np.ndarray, affine: np.ndarray) -> Any:
    """`(X, Y, Z)` with an RAS affine as SimpleITK would hold it."""
    import SimpleITK

    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(volume.transpose(2, 1, 0)))
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


@pytest.mark.parametrize("name", ["a.nrrd", "a.mha", "a.mhd", "a.nhdr", "Ä ö.MHA"])
def test_volumes_lie_where_they_are(tmp_path: Path, volume: np.ndarray, affine: np.ndarray, name: str) -> None:
    import SimpleITK

    SimpleITK.WriteImage(_itk_image(volume, affine), str(tmp_path / name.lower()))
    (tmp_path / name.lower()).rename(tmp_path / name)
    scan = read_scan(tmp_path / name)
    assert np.array_equal(scan.array[0], volume)
    assert np.allclose(scan.affine, affine)
    labels = (volume % 3).astype(np.uint8)
    for result in ("l.nrrd", "l.mha", "l.nii.gz"):
        write_labels(scan, labels, tmp_path / result, ["a", "b"])
        back = read_labels(tmp_path / result)
        assert np.array_equal(back.array[0], labels)
        assert np.allclose(back.affine, affine, atol=1e-5)


def _components(path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.zeros((3, 4, 5, 3), np.uint8), isVector=True), str(path))


def _cut(path: Path) -> None:
    import SimpleITK

    noise = np.random.default_rng(0).integers(0, 9999, (20, 20, 20)).astype(np.int16)
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(noise), str(path))
    path.write_bytes(path.read_bytes()[:6000])


def _no_data(path: Path) -> None:
    import SimpleITK

    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5)), str(path))
    for data in (".raw", ".zraw"):
        path.with_suffix(data).unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        pytest.param("a.nrrd", _components, "image of 3 channels", id="three components"),
        pytest.param("a.nrrd", _cut, "truncated or corrupt", id="NRRD cut"),
        pytest.param("a.mha", _cut, "truncated or corrupt", id="MetaImage cut"),
        pytest.param("a.mhd", _no_data, "truncated or corrupt", id="header without data"),
        pytest.param("a.mha", lambda path: path.write_text("hello " * 50), "not a readable .mha file", id="text"),
        pytest.param("a.nrrd", lambda path: path.write_text("hello " * 50), "not a readable .nrrd", id="text as NRRD"),
        pytest.param("a.nrrd", lambda path: path.write_bytes(b""), "empty file", id="no bytes"),
    ],
)
def test_volumes_that_cannot_be_read(
    tmp_path: Path, name: str, make: Callable[[Path], Any], reason: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make(tmp_path / name)
    with pytest.raises(CaseError, match=reason) as caught:
        read_scan(tmp_path / name)
    assert str(tmp_path) not in str(caught.value)


GREY = np.arange(12 * 10, dtype=np.uint8).reshape(12, 10)
COLOUR = np.stack([GREY, GREY + 1, GREY + 2], axis=-1)


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "gif", "PNG", "jpg", "webp"])
def test_pictures_are_channels_rows_columns(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(GREY).save(path)
    scan = read_scan(path)
    assert scan.array.shape == (1, 12, 10)
    assert scan.spacing == (1.0, 1.0)
    assert scan.is_2d
    assert np.allclose(scan.array[0], GREY, atol=12 if suffix in ("jpg", "webp") else 0)


@pytest.mark.parametrize(
    ("array", "channels"),
    [(GREY, 3), (COLOUR, 3), (np.repeat(GREY[..., None], 3, -1), 1), (GREY.astype(np.uint16) * 500, 1)],
)
def test_grey_and_colour_meet_where_nothing_is_lost(tmp_path: Path, array: np.ndarray, channels: int) -> None:
    Image.fromarray(array).save(tmp_path / "a.png")
    scan = read_scan(tmp_path / "a.png", channels=channels)
    assert scan.array.shape == (channels, 12, 10)
    assert np.array_equal(scan.array[0], array if array.ndim == 2 else array[..., 0])


def test_multi_sample_tiff_and_its_size(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(
        tmp_path / "a.tif", COLOUR, photometric="rgb", compression="lzw", resolution=(400, 200), resolutionunit=3
    )
    scan = read_scan(tmp_path / "a.tif", channels=3)
    assert np.array_equal(scan.array[2], COLOUR[..., 2])
    assert scan.spacing == pytest.approx((0.05, 0.025))
    tifffile.imwrite(tmp_path / "b.tif", COLOUR.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    assert np.array_equal(read_scan(tmp_path / "b.tif", channels=3).array[2], COLOUR[..., 2])


def test_pictures_stand_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right
    Image.fromarray(GREY).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_scan(tmp_path / "a.png").array[0], np.rot90(GREY, -1))


def _pages(path: Path) -> None:
    Image.fromarray(GREY).save(path, save_all=True, append_images=[Image.fromarray(GREY + 1)])


def _transparent(path: Path) -> None:
    Image.fromarray(np.dstack([COLOUR, GREY])).save(path)


def _half(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 50)).astype(np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1200])


@pytest.mark.parametrize(
    ("name", "make", "reason"),
    [
        pytest.param("a.png", lambda path: Image.fromarray(COLOUR).save(path), "colour image", id="colour"),
        pytest.param("a.gif", _pages, "2 pages or frames", id="animation"),
        pytest.param("a.tif", _pages, "2 pages or frames", id="pages"),
        pytest.param("a.png", _transparent, "transparent parts", id="transparent"),
        pytest.param("a.png", _half, "not a readable picture", id="cut"),
        pytest.param("a.tif", _half, "not a readable picture", id="TIFF cut"),
        pytest.param("a.jpg", lambda path: path.write_text("hello"), "not a readable picture", id="text"),
        pytest.param("a.tif", lambda path: path.write_text("hello"), "not a readable picture", id="text as TIFF"),
        pytest.param("a.png", lambda path: path.write_bytes(b""), "empty file", id="no bytes"),
    ],
)
def test_pictures_that_cannot_be_read(tmp_path: Path, name: str, make: Callable[[Path], Any], reason: str) -> None:
    make(tmp_path / name)
    with pytest.raises(CaseError, match=reason) as caught:
        read_scan(tmp_path / name)
    assert str(tmp_path) not in str(caught.value)


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_label_pictures_hold_what_they_hold(tmp_path: Path, mode: str) -> None:
    values = (GREY % 2).astype(np.uint16 if mode == "I;16" else np.uint8)
    picture = Image.fromarray(values * 255).convert("1") if mode == "1" else Image.fromarray(values)
    if mode == "P":
        picture = Image.fromarray(values)
        picture.putpalette([200, 0, 0, 0, 200, 0])
    picture.save(tmp_path / "l.png")
    assert np.array_equal(read_labels(tmp_path / "l.png").array[0], values)


def test_labels_of_a_picture_are_a_picture(tmp_path: Path) -> None:
    Image.fromarray(GREY).save(tmp_path / "a.png")
    scan: Scan = read_scan(tmp_path / "a.png")
    assert label_suffix(scan) == ".png"
    for classes in (["a"], [f"class {number}" for number in range(300)]):
        labels = (GREY % 2).astype(np.int64) * len(classes)
        write_labels(scan, labels, tmp_path / "l.png", classes)
        assert np.array_equal(read_labels(tmp_path / "l.png").array[0], labels)
    with pytest.raises(ValueError, match=r"use \.png"):
        write_labels(scan, labels, tmp_path / "l.jpg", classes)
