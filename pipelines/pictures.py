"""Pictures as files."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import CaseError

__all__ = ["PICTURE_ENDINGS", "picture_size", "read_picture"]

PICTURE_ENDINGS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"))
_MOST_PIXELS = 200_000_000
_HIGHEST = 2**16 - 1


def read_picture(path: Path, case_id: str) -> NDArray[np.uint8]:
    """A picture as `(h, w, 3)` uint8 RGB, upright as its camera says; sixteen bits become the eight highest of them.

    Raises:
        CaseError: There is no such file, it is damaged, it is no picture, or its numbers have no known range.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise CaseError(case_id, f"there is no file {path.name}", hint="Check the folder of the pictures.")
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore")
            if opened.width * opened.height > _MOST_PIXELS:
                raise CaseError(case_id, f"{opened.width} × {opened.height} pixels are more than a picture has")
            if _on_its_side(opened) and opened.info.get("compression") == "raw":
                raise ValueError("Pillow mixes up the pixels of a rotated TIFF that is not compressed; save it upright")
            upright: Any = ImageOps.exif_transpose(opened)
            return np.asarray(_eight_bits(upright).convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = str(error).split(" '")[0].split(" <")[0]
        raise CaseError(
            case_id, f"{path.name} is no readable picture: {reason}", hint="Open it in a viewer, or copy it again."
        ) from error


def _eight_bits(picture: Any) -> Any:
    """Pillow would cut off what is above 255, and a picture of sixteen bits would be white."""
    from PIL import Image

    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.asarray(picture)
    if picture.mode == "F" or (values.size and not 0 <= values.min() <= values.max() <= _HIGHEST):
        raise ValueError("its numbers have no known range; save it with 8 or 16 bits")
    return Image.fromarray((values // (_HIGHEST // 255)).astype(np.uint8))


def picture_size(path: Path, case_id: str) -> tuple[int, int]:
    """Height and width, upright, from the head of the file where that tells. Raises `CaseError` as `read_picture`."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            if not _on_its_side(opened):
                return opened.size[::-1]
            if opened.format != "TIFF":  # of which Pillow tells the upright size, or not, by its version
                return opened.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        pass
    height, width = read_picture(path, case_id).shape[:2]
    return height, width


def _on_its_side(opened: Any) -> bool:
    """Orientations 5 to 8 of EXIF."""
    return bool(opened.getexif().get(0x0112, 1) >= 5)
