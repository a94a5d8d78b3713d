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


def read_picture(path: Path, case_id: str) -> NDArray[np.uint8]:
    """A picture as `(h, w, 3)` uint8 RGB, upright as its camera says.

    Raises:
        CaseError: There is no such file, it is damaged, or it is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise CaseError(case_id, f"there is no file {path.name}", hint="Check the folder of the pictures.")
    try:
        with warnings.catch_warnings(), Image.open(path) as opened:
            warnings.simplefilter("ignore")
            if opened.width * opened.height > _MOST_PIXELS:
                raise CaseError(case_id, f"{opened.width} × {opened.height} pixels are more than a picture has")
            upright: Any = ImageOps.exif_transpose(opened)
            return np.asarray(upright.convert("RGB"))
    except (OSError, SyntaxError, ValueError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        reason = str(error).split(" '")[0].split(" <")[0]
        raise CaseError(
            case_id, f"{path.name} is no readable picture: {reason}", hint="Open it in a viewer, or copy it again."
        ) from error


def picture_size(path: Path, case_id: str) -> tuple[int, int]:
    """Height and width, upright, from the head of the file where that tells. Raises `CaseError` as `read_picture`."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            # Orientations 5 to 8 lie on their side.
            return opened.size if opened.getexif().get(0x0112, 1) >= 5 else opened.size[::-1]
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        height, width = read_picture(path, case_id).shape[:2]
        return height, width
