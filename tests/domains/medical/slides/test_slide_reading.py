"""Readers: the same pixels at the same places from every kind of file; a size of pixels is known or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from domains.medical.slides.opening import open_slide
from domains.medical.slides.slide import Slide
from pipelines.errors import CaseError
from pipelines.fixtures import data_root

Image = NDArray[np.uint8]
Write = Callable[..., Path]


@pytest.fixture(params=["ome", "pages", "plain", "dicom", "sparse"])
def slide(
    request: pytest.FixtureRequest, write_tiff: Write, write_dicom: Write, pyramid: list[Image], tmp_path: Path
) -> Slide:
    """One image in many files, 0.5 µm per pixel."""
    if request.param in ("dicom", "sparse"):
        kind = "TILED_FULL" if request.param == "dicom" else "TILED_SPARSE"
        paths = [
            write_dicom(tmp_path / f"{number}.dcm", level, mpp=0.5 * 2**number, kind=kind)
            for number, level in enumerate(pyramid)
        ]
        return open_slide("case", paths)
    return open_slide("case", write_tiff(request.param))


def test_regions_hold_the_pixels_of_their_place(slide: Slide, pyramid: list[Image]) -> None:
    with slide:
        assert slide.mpp == pytest.approx((0.5, 0.5), rel=1e-6)
        assert (slide.width, slide.height) == (2048, 1536)
        for number, level in enumerate(slide.levels):
            expected = pyramid[number]
            assert (level.width, level.height) == (expected.shape[1], expected.shape[0])
            found = slide.region(512, 256, 300, 200, level=number)
            x, y = 512 // 2**number, 256 // 2**number
            np.testing.assert_array_equal(found, expected[y : y + 200, x : x + 300])


def test_beyond_the_edge_is_white(slide: Slide, image: Image) -> None:
    with slide:
        corner = slide.region(-20, -10, 50, 50)
        assert (corner[:10] == 255).all()
        assert (corner[:, :20] == 255).all()
        np.testing.assert_array_equal(corner[10:, 20:], image[:40, :30])
        assert (slide.region(5000, 5000, 8, 8) == 255).all()


def test_a_resolution_is_met_from_any_level(slide: Slide, pyramid: list[Image]) -> None:
    with slide:
        coarse = slide.region_at(512, 256, 128, 128, mpp=2.0).astype(int)
        expected = pyramid[2][64:192, 128:256]
        assert np.abs(coarse - expected).max() <= 2  # one level is rounded twice
        odd = slide.region_at(0, 0, 300, 225, mpp=0.5 * 2048 / 300)
        np.testing.assert_allclose(odd.mean((0, 1)), pyramid[0].mean((0, 1)), atol=1)


def test_the_thumbnail_shows_the_whole_slide(slide: Slide, image: Image) -> None:
    with slide:
        thumbnail = slide.thumbnail(256)
        assert thumbnail.shape == (192, 256, 3)
        np.testing.assert_allclose(thumbnail.mean((0, 1)), image.mean((0, 1)), atol=1)


def test_threads_read_the_same(slide: Slide, image: Image) -> None:
    wrong: list[int] = []

    def read(start: int) -> None:
        for x in range(start, 1700, 400):
            same = np.array_equal(slide.region(x, x // 2, 200, 200), image[x // 2 : x // 2 + 200, x : x + 200])
            wrong.extend([] if same else [x])

    with slide:
        threads = [threading.Thread(target=read, args=(start,)) for start in (0, 100, 200, 300)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_missing_frames_are_white(image: Image, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "a.dcm", image, mpp=0.5, kind="TILED_SPARSE", missing=(0,))
    with open_slide("case", path) as slide:
        assert (slide.region(0, 0, 256, 256) == 255).all()
        np.testing.assert_array_equal(slide.region(256, 0, 256, 256), image[:256, 256:512])


@pytest.mark.parametrize(("coding", "apart"), [("jpeg2000", 0), ("jpeg", 12), ("no table", 12), ("fragments", 12)])
def test_coded_frames_are_decoded(image: Image, tmp_path: Path, write_dicom: Write, coding: str, apart: int) -> None:
    path = write_dicom(tmp_path / "a.dcm", image[:500, :700], mpp=0.5, coding=coding)
    with open_slide("case", path) as slide:
        found = slide.region(0, 0, 700, 500).astype(int)
    difference = np.abs(found - image[:500, :700])
    assert np.quantile(difference, 0.99) <= apart
    assert difference.mean() <= apart / 3


def test_a_level_alone_of_labels_is_named(image: Image, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "a.dcm", image, mpp=0.5, flavour="LABEL")
    with pytest.raises(CaseError, match="only a label"):
        open_slide("case", path)


def test_frames_without_an_order_are_refused(image: Image, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "a.dcm", image, mpp=0.5, kind="")
    with pytest.raises(CaseError, match="where its 48 frames lie"):
        open_slide("case", path)


def test_a_dicom_slide_that_ends_early_is_named(image: Image, tmp_path: Path, write_dicom: Write) -> None:
    path = write_dicom(tmp_path / "a.dcm", image, mpp=0.5)
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CaseError, match="ends early"):
        open_slide("case", path)


@pytest.mark.parametrize(
    ("mpp", "unit", "expected"),
    [
        pytest.param(0.25, "CENTIMETER", 0.25, id="centimetres"),
        pytest.param(0.25, "INCH", 0.25, id="inches, as fine as a slide"),
        pytest.param(25400 / 72, "INCH", None, id="72 dpi"),
        pytest.param(25400 / 300, "INCH", None, id="300 dpi"),
        pytest.param(None, "INCH", None, id="nothing"),
    ],
)
@pytest.mark.parametrize("kind", ["plain", "pages"])
def test_print_resolutions_are_no_size_of_pixels(
    write_tiff: Write, kind: str, mpp: float | None, unit: str, expected: float | None
) -> None:
    with open_slide("case", write_tiff(kind, mpp=mpp, unit=unit)) as slide:
        if expected is None:
            assert not slide.has_mpp
            with pytest.raises(CaseError, match=r"mpp=") as refused:
                slide.region_at(0, 0, 10, 10, mpp=1.0)
            assert "--mpp" in refused.value.hint
        else:
            assert slide.mpp == pytest.approx((expected, expected), rel=1e-4)


def test_a_given_size_of_pixels_counts(write_tiff: Write) -> None:
    with open_slide("case", write_tiff("plain", mpp=None), mpp=(0.25, 0.5)) as slide:
        assert slide.mpp == (0.25, 0.5)
        assert slide.region_at(0, 0, 64, 64, mpp=1.0).shape == (64, 64, 3)


def test_many_channels_are_refused_by_name(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "stack.ome.tif"
    tifffile.imwrite(path, np.zeros((4, 64, 64), np.uint16), metadata={"axes": "CYX"}, photometric="minisblack")
    with pytest.raises(CaseError, match=r"(?s)uint16.*CYX.*Fluorescence"):
        open_slide("case", path)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("a.svs", b"", "empty file", id="empty"),
        pytest.param("a.svs", b"no slide at all", r"\.svs is not a slide", id="text"),
        pytest.param("a.tif", b"II*\0" + bytes(40), "not a readable TIFF", id="no page"),
        pytest.param("a.png", b"\x89PNG\r\n", "not a readable picture", id="picture"),
        pytest.param("a.dcm", bytes(128) + b"DICM" + b"xx", "not a readable DICOM", id="dicom"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CaseError, match=told):
        open_slide("case", tmp_path / name)


def test_a_cut_file_is_named_where_it_ends(write_tiff: Write, tmp_path: Path) -> None:
    whole = write_tiff("plain").read_bytes()
    # The directory of pages lies at the end of what tifffile writes; an image whose last strips point past the end.
    path = tmp_path / "cut.tif"
    path.write_bytes(whole[: len(whole) * 2 // 3])
    with pytest.raises(CaseError), open_slide("case", path) as slide:
        slide.thumbnail(200)


def _sample(name: str) -> Path:
    root = data_root()
    path = root / "wsi_samples" / name if root else None
    if path is None or not path.is_file():
        pytest.skip("wsi_samples is not here; set PULVINAR_DATA")
    return path


def test_tifffile_and_openslide_agree_on_a_scanner_file() -> None:
    from domains.medical.slides.tiff_reader import TiffSlide

    path = _sample("CMU-1-Small-Region.svs")
    with open_slide("a", path) as first, TiffSlide("b", path) as second:
        assert first.facts.reader == "openslide/aperio"
        assert (first.mpp, first.facts.magnification) == ((0.499, 0.499), 20.0)
        for x, y in ((0, 0), (333, 777), (2000, 2800)):
            np.testing.assert_array_equal(first.region(x, y, 300, 200), second.region(x, y, 300, 200))


def test_a_scanner_pyramid_is_read_at_every_level() -> None:
    with open_slide("a", _sample("hamamatsu_dapi.ndpi")) as slide:
        assert slide.mpp == pytest.approx((0.22818, 0.22818), rel=1e-4)
        whole = slide.overview(64).astype(int)
        for level in range(len(slide.levels)):
            scale = slide.levels[level].downsample
            shown = slide.region(0, 0, int(slide.width / scale), int(slide.height / scale), level=level)
            assert np.abs(shown.mean((0, 1)) - whole.mean((0, 1))).max() < 2
