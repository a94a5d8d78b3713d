"""Plain images as slides of one level: PNG, JPEG and whatever else is a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief
from domains.medical.slides.slide import Level, Slide, SlideFacts
from pipelines.errors import CaseError

__all__ = ["PICTURE_SUFFIXES", "ArraySlide", "open_picture"]

PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


class ArraySlide(Slide):
    """An image that is in memory: uint8 `(H, W, 3)`."""

    def __init__(
        self,
        case_id: str,
        path: Path,
        pixels: NDArray[np.uint8],
        facts: SlideFacts,
        *,
        mpp: float | tuple[float, float] | None = None,
    ) -> None:
        super().__init__(case_id, path, facts, mpp=mpp)
        self._pixels = pixels

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        return np.ascontiguousarray(self._pixels[y : y + height, x : x + width])

    def close(self) -> None:
        """Nothing is open."""


def open_picture(case_id: str, path: Path, *, mpp: float | tuple[float, float] | None = None) -> ArraySlide:
    """A picture; what it says of dots per inch is for printers and is not taken for the size of a pixel.

    Raises:
        CaseError: It cannot be read.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            picture = ImageOps.exif_transpose(opened)
            pixels = np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise CaseError(
            case_id, f"not a readable picture: {brief(error, path)}", hint="Open it in a viewer, or copy it again."
        ) from error
    level = Level(pixels.shape[1], pixels.shape[0], 1.0)
    return ArraySlide(case_id, path, pixels, SlideFacts("picture", (level,), None), mpp=mpp)
