"""Pictures: PNG, JPEG, TIFF, BMP, GIF, WebP. Upright as a viewer shows them, `(C, H, W)`, lengths in pixels.

Resolutions in such files are mostly print hints (72 dpi), so only what is written on purpose counts: a TIFF resolution
in pixels per centimetre.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief, fit_picture_channels, refuse_unusable_file
from domains.medical.scans.outputs import OUTPUT_MARK
from domains.medical.scans.quiet import quiet
from domains.medical.scans.scan import Reading, SourceGeometry
from pipelines.errors import CaseError

__all__ = ["is_picture_name", "read_picture", "read_picture_labels", "write_picture"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp")
_CENTIMETRE = 3
# No coding shrinks a picture further; a corrupt size would have memory set aside for it.
_MOST_PIXELS_PER_BYTE = 20_000


def is_picture_name(name: str) -> bool:
    """Whether a file name ends like a picture."""
    return name.lower().endswith(PICTURE_SUFFIXES)


def read_picture(case_id: str, path: Path, *, channels: int) -> Reading:
    """Reads one picture.

    Args:
        case_id: For messages.
        path: The file.
        channels: 1 or 3; grey and colour are brought together where nothing is lost (see `fit_picture_channels`).

    Returns:
        `(C, H, W)` array, `(4, 4)` affine, source, notes.

    Raises:
        CaseError: If the file is not whole, not a picture, has several pages, or other channels.
    """
    values, affine = _load(case_id, path, labels=False)
    planes = np.moveaxis(values, -1, 0) if values.ndim == 3 else values[None]  # (C, H, W)
    source = SourceGeometry("picture", planes.shape[1:], paths=(path,))
    return Reading(fit_picture_channels(case_id, planes.astype(np.float32), channels), affine, source)


def read_picture_labels(case_id: str, path: Path) -> Reading:
    """Reads a label map `(1, H, W)`: palette indices, or grey values as stored; black and white are 0 and 1."""
    values, affine = _load(case_id, path, labels=True)
    if values.ndim == 3:
        values = fit_picture_channels(case_id, np.moveaxis(values, -1, 0).astype(np.float32), 1)[0]
    return Reading(values[None], affine, SourceGeometry("picture", values.shape, paths=(path,)))


def write_picture(path: Path, array: NDArray[np.unsignedinteger]) -> None:
    """Writes `(H, W)` or `(H, W, 3)` as PNG that says it is an output."""
    from PIL import Image, PngImagePlugin

    mark = PngImagePlugin.PngInfo()
    mark.add_text("Software", OUTPUT_MARK)
    # Half the time of the default level, for a file that is a tenth larger.
    Image.fromarray(np.ascontiguousarray(array)).save(path, format="PNG", pnginfo=mark, compress_level=4)


def _load(case_id: str, path: Path, *, labels: bool) -> tuple[NDArray[Any], NDArray[np.float64]]:
    refuse_unusable_file(case_id, path)
    with quiet():
        try:
            if path.suffix.lower() in (".tif", ".tiff"):
                return _load_tiff(case_id, path, labels=labels)
            return _load_pillow(case_id, path, labels=labels), np.eye(4)
        except CaseError:
            raise
        except Exception as error:
            raise CaseError(
                case_id,
                f"not a readable picture: {brief(error, path)}",
                hint="Open it in a viewer, or copy it again.",
            ) from error


def _load_pillow(case_id: str, path: Path, *, labels: bool) -> NDArray[Any]:
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        if (pages := getattr(opened, "n_frames", 1)) > 1:
            raise _several_pages(case_id, pages)
        picture: Any = ImageOps.exif_transpose(opened)
        if picture.mode == "P" and not labels:
            picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
        elif picture.mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA"):
            picture = picture.convert("RGB")
        values = np.asarray(picture)
    return _without_alpha(case_id, values.astype(np.uint8) if values.dtype == np.bool_ else values)


def _load_tiff(case_id: str, path: Path, *, labels: bool) -> tuple[NDArray[Any], NDArray[np.float64]]:
    import tifffile

    with tifffile.TiffFile(path) as file:
        page: Any = file.pages[0]
        if page.size > path.stat().st_size * _MOST_PIXELS_PER_BYTE:
            raise CaseError(case_id, f"corrupt header: {page.size} pixels in a small file", hint="Copy it again.")
        series = file.series[0]
        if len(file.pages) > 1 and len(series.levels) == 1:
            raise _several_pages(case_id, len(file.pages))
        values = page.asarray()
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not labels:
            values = np.moveaxis(page.colormap[:, values] >> 8, 0, -1)  # (H, W, 3)
        elif page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and values.dtype.kind == "u":
            values = (1 if page.bitspersample == 1 else np.iinfo(values.dtype).max) - values
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE and values.ndim == 3:
            values = np.moveaxis(values, 0, -1)
        affine = _tiff_affine(page)
    values = values.astype(np.uint8) if values.dtype == np.bool_ else values
    return _without_alpha(case_id, values), affine


def _tiff_affine(page: Any) -> NDArray[np.float64]:
    tags = page.tags
    if "ResolutionUnit" in tags and int(tags["ResolutionUnit"].value) == _CENTIMETRE and "YResolution" in tags:
        per_centimetre = [tags[name].value[0] / max(tags[name].value[1], 1) for name in ("YResolution", "XResolution")]
        if min(per_centimetre) > 0:
            return np.diag([10.0 / per_centimetre[0], 10.0 / per_centimetre[1], 1.0, 1.0])
    return np.eye(4)


def _without_alpha(case_id: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.ndim == 2 or values.shape[-1] not in (2, 4):
        return values
    alpha = values[..., -1]
    if (alpha != alpha.max()).any():
        raise CaseError(
            case_id,
            "picture with transparent parts",
            hint="Save it without an alpha channel; what lies behind is not known.",
        )
    return values[..., 0] if values.shape[-1] == 2 else values[..., :3]


def _several_pages(case_id: str, pages: int) -> CaseError:
    return CaseError(
        case_id, f"{pages} pages or frames; one was expected", hint="Save the page to use as a file of its own."
    )
