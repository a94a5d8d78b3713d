"""Pictures as the network sees them: read, upright, in colour, resized, normalised."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case
from pipelines.errors import CaseError

__all__ = ["Fit", "ImageInput", "Pixels", "picture_or_none", "read_picture", "resized_picture"]

Fit = Literal["stretch", "crop"]
Pixels = NDArray[np.uint8]

_MOST_PIXELS = 200_000_000
_STATISTICS = {
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


@dataclass(frozen=True)
class ImageInput:
    """How a picture becomes the network's input.

    Attributes:
        size: Height and width, in pixels.
        fit: `stretch` to the size, or scale until it is covered and `crop` the middle.
        statistics: Mean and deviation of the channels: of ImageNet, or 0.5 each.
    """

    size: tuple[int, int]
    fit: Fit = "stretch"
    statistics: Literal["imagenet", "half"] = "imagenet"

    def resize(self, picture: Pixels) -> Pixels:
        """`(h, w, 3)` → `(H, W, 3)` under `stretch`; under `crop` the shorter side fits and the longer is kept."""
        from PIL import Image

        height, width = self.size
        if self.fit == "crop":
            scale = max(height / picture.shape[0], width / picture.shape[1])
            height = max(height, round(picture.shape[0] * scale))
            width = max(width, round(picture.shape[1] * scale))
        if picture.shape[:2] == (height, width):
            return picture
        return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BICUBIC))

    def middle(self, picture: Pixels) -> Pixels:
        """The middle `(H, W, 3)` of a resized picture."""
        top, left = ((have - want) // 2 for have, want in zip(picture.shape[:2], self.size, strict=True))
        return picture[top : top + self.size[0], left : left + self.size[1]]

    def normalise(self, picture: Pixels) -> NDArray[np.float32]:
        """`(H, W, 3)` → `(3, H, W)` float32."""
        mean, deviation = (np.array(values, dtype=np.float32) * 255 for values in _STATISTICS[self.statistics])
        return np.ascontiguousarray(((picture.astype(np.float32) - mean) / deviation).transpose(2, 0, 1))


def read_picture(case_id: str, path: Path) -> Pixels:
    """A picture as `(h, w, 3)` uint8, upright as its camera says.

    Raises:
        CaseError: There is no such file, it is damaged, or it is no picture.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    if not path.is_file():
        raise CaseError(case_id, f"there is no file {path.name!r}")
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
            case_id, f"not a readable picture: {reason}", hint="Open it in a viewer, or copy it again."
        ) from error


def resized_picture(given: ImageInput, case: Case) -> Pixels:
    """The picture of a case, resized. Raises `CaseError`."""
    return given.resize(read_picture(case.case_id, case.paths["image"]))


def picture_or_none(given: ImageInput, case: Case) -> Pixels | None:
    """The picture of a case, resized, to be shown; None where it cannot be read."""
    try:
        return resized_picture(given, case)
    except CaseError:
        return None
