"""Pictures as the network sees them: resized, normalised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.pictures import read_picture

__all__ = ["Fit", "ImageInput", "Pixels", "picture_or_none", "resized_picture"]

Fit = Literal["stretch", "crop"]
Pixels = NDArray[np.uint8]

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


def resized_picture(given: ImageInput, case: Case) -> Pixels:
    """The picture of a case, resized. Raises `CaseError`."""
    return given.resize(read_picture(case.paths["image"], case.case_id))


def picture_or_none(given: ImageInput, case: Case) -> Pixels | None:
    """The picture of a case, resized, to be shown; None where it cannot be read."""
    try:
        return resized_picture(given, case)
    except CaseError:
        return None
