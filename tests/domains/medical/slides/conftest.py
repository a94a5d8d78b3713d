"""Slides that are made here: the same image as a pyramid in every kind of file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

Image = NDArray[np.uint8]


def draw_slide(height: int = 1536, width: int = 2048) -> Image:
    """Bright glass, a large piece of pink tissue with a hole, a small piece, a speck, a green stroke of ink."""
    rng = np.random.default_rng(0)
    image = np.full((height, width, 3), 243, np.uint8)
    cv2.ellipse(image, (700, 760), (480, 520), 0, 0, 360, (205, 130, 175), -1)
    cv2.circle(image, (640, 700), 150, (243, 243, 243), -1)
    cv2.ellipse(image, (1500, 400), (220, 160), 30, 0, 360, (190, 110, 160), -1)
    cv2.circle(image, (1800, 1400), 6, (150, 60, 120), -1)
    cv2.line(image, (1300, 1300), (1700, 1200), (40, 160, 90), 40)
    noise = rng.normal(0, 3, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def image() -> Image:
    return draw_slide()


@pytest.fixture(scope="session")
def pyramid(image: Image) -> list[Image]:
    """Levels of 1, 2 and 4 times the size of a pixel."""
    levels = [image]
    for _ in range(2):
        half = levels[-1].shape[1] // 2, levels[-1].shape[0] // 2
        levels.append(cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA).astype(np.uint8))
    return levels


WriteTiff = Callable[..., Path]


@pytest.fixture(scope="session")
def slide_file(write_tiff: WriteTiff) -> Path:
    """The drawn slide as a pyramid of 0.5 µm per pixel."""
    return write_tiff("pages")


@pytest.fixture(scope="session")
def write_tiff(pyramid: list[Image], tmp_path_factory: pytest.TempPathFactory) -> WriteTiff:
    """Writes a TIFF: `kind` is `ome`, `pages` (levels as further pages) or `plain` (one level, in strips)."""
    import tifffile

    folder = tmp_path_factory.mktemp("tiff")

    def write(kind: str, *, mpp: float | None = 0.5, unit: str = "CENTIMETER") -> Path:
        path = folder / f"{kind}-{mpp}-{unit}.{'ome.tif' if kind == 'ome' else 'tif'}"
        if path.exists():
            return path
        per_unit = {"CENTIMETER": 1e4, "INCH": 25400.0}[unit]
        about = {"photometric": "rgb"}
        if kind != "ome" and mpp:
            about |= {"resolution": (per_unit / mpp, per_unit / mpp), "resolutionunit": unit}
        if kind == "plain":
            tifffile.imwrite(path, pyramid[0], rowsperstrip=64, compression="deflate", **about)
            return path
        tiled = about | {"tile": (256, 256), "compression": "deflate"}
        with tifffile.TiffWriter(path, ome=kind == "ome") as writer:
            if kind == "ome":
                size = {"PhysicalSizeX": mpp, "PhysicalSizeY": mpp} if mpp else {}
                writer.write(pyramid[0], subifds=2, metadata={"axes": "YXS", **size}, **tiled)
                for level in pyramid[1:]:
                    writer.write(level, subfiletype=1, **tiled)
            else:
                for number, level in enumerate(pyramid):
                    writer.write(level, subfiletype=int(number > 0), metadata=None, **tiled)
        return path

    return write


@pytest.fixture(scope="session")
def write_dicom() -> Callable[..., Path]:
    """Writes one level as DICOM, uncompressed."""
    return _write_dicom


def _encapsulate(dataset: Any, frames: list[Image], coding: str) -> None:
    """JPEG, lossless JPEG 2000, or JPEG in `fragments` of a frame; `no table` has JPEG without offsets."""
    import imagecodecs
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless, JPEGBaseline8Bit

    if coding == "jpeg2000":
        coded = [imagecodecs.jpeg2k_encode(frame, level=0, codecformat="J2K") for frame in frames]
        dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless
    else:
        coded = [imagecodecs.jpeg8_encode(frame, level=95) for frame in frames]
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PhotometricInterpretation = "YBR_FULL_422"
    fragments = 3 if coding == "fragments" else 1
    dataset.PixelData = encapsulate(coded, fragments_per_frame=fragments, has_bot=coding != "no table")


def _write_dicom(
    path: Path,
    pixels: Image,
    *,
    mpp: float | None,
    tile: int = 256,
    kind: str = "TILED_FULL",
    flavour: str = "VOLUME",
    series: str = "1.2.3.4",
    missing: tuple[int, ...] = (),
    coding: str = "",
) -> Path:
    """`missing` frames of a TILED_SPARSE level are left out."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, generate_uid

    height, width = pixels.shape[:2]
    rows, columns = -(-height // tile), -(-width // tile)
    padded = np.zeros((rows * tile, columns * tile, 3), np.uint8)
    padded[:height, :width] = pixels
    places = [divmod(index, columns) for index in range(rows * columns) if index not in missing]
    frames = [padded[r * tile : (r + 1) * tile, c * tile : (c + 1) * tile] for r, c in places]
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.77.1.6"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    dataset.SeriesInstanceUID = series
    dataset.ImageType = ["DERIVED", "PRIMARY", flavour, "NONE"]
    dataset.Rows = dataset.Columns = tile
    dataset.TotalPixelMatrixRows, dataset.TotalPixelMatrixColumns = height, width
    dataset.NumberOfFrames = len(frames)
    dataset.SamplesPerPixel, dataset.PlanarConfiguration, dataset.PhotometricInterpretation = 3, 0, "RGB"
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    if kind:
        dataset.DimensionOrganizationType = kind
    if mpp:
        measures, shared = Dataset(), Dataset()
        measures.PixelSpacing = [mpp / 1000, mpp / 1000]
        shared.PixelMeasuresSequence = Sequence([measures])
        dataset.SharedFunctionalGroupsSequence = Sequence([shared])
    if kind == "TILED_SPARSE":
        groups = []
        for row, column in places:
            position, group = Dataset(), Dataset()
            position.RowPositionInTotalImagePixelMatrix = row * tile + 1
            position.ColumnPositionInTotalImagePixelMatrix = column * tile + 1
            group.PlanePositionSlideSequence = Sequence([position])
            groups.append(group)
        dataset.PerFrameFunctionalGroupsSequence = Sequence(groups)
    if coding:
        _encapsulate(dataset, frames, coding)
    else:
        dataset.PixelData = np.stack(frames).tobytes()
    dataset.save_as(path, enforce_file_format=True)
    return path
