"""Random changes of training pictures: a function of the picture and of a generator alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.images import ImageInput, Pixels
from domains.reid.training.albumentations_adapter import PictureChange, picture_change

if TYPE_CHECKING:
    from domains.reid.settings import AugmentSettings, EraseSettings

__all__ = ["Changes", "erase", "pad_and_crop"]


class Changes:
    """From a resized picture to a changed, normalised one.

    Args:
        given: Size and statistics.
        settings: Probabilities and ranges; None changes nothing.
    """

    def __init__(self, given: ImageInput, settings: AugmentSettings | None) -> None:
        self._given, self._settings = given, settings
        self._change: PictureChange | None = None
        self._made = False

    def __call__(self, picture: Pixels, rng: np.random.Generator) -> NDArray[np.float32]:
        """`(h, w, 3)` uint8 → `(3, H, W)` float32."""
        settings = self._settings
        if settings is None:
            return self._given.normalise(self._given.middle(picture))
        if not self._made:
            self._change, self._made = picture_change(settings, self._given.size), True
        if self._change is not None:
            picture = self._change(picture, int(rng.integers(2**31)))
        if settings.pad:
            picture = pad_and_crop(picture, settings.pad, rng)
        picture = _cut(picture, self._given.size, rng)
        if rng.random() < settings.flip:
            picture = picture[:, ::-1]
        values = self._given.normalise(picture)
        if rng.random() < settings.erase.probability:
            erase(values, settings.erase, rng)
        return values

    def __getstate__(self) -> dict[str, Any]:
        # What albumentations makes does not travel to another process; it is made again there.
        return {**self.__dict__, "_change": None, "_made": False}


def pad_and_crop(picture: Pixels, pad: int, rng: np.random.Generator) -> Pixels:
    """The picture with a black margin of `pad` pixels, cut back to its size anywhere."""
    padded = np.pad(picture, ((pad, pad), (pad, pad), (0, 0)))
    top, left = rng.integers(0, 2 * pad + 1, size=2)
    return padded[top : top + picture.shape[0], left : left + picture.shape[1]]


def erase(values: NDArray[np.float32], settings: EraseSettings, rng: np.random.Generator) -> None:
    """Fills a random rectangle of `(3, H, W)` with the mean, 0, in place (Zhong et al., Random erasing, AAAI 2020)."""
    height, width = values.shape[1:]
    area = rng.uniform(*settings.area) * height * width
    ratio = np.exp(rng.uniform(np.log(settings.ratio), -np.log(settings.ratio)))
    tall, wide = min(height, round(float(np.sqrt(area * ratio)))), min(width, round(float(np.sqrt(area / ratio))))
    top, left = rng.integers(0, height - tall + 1), rng.integers(0, width - wide + 1)
    values[:, top : top + tall, left : left + wide] = 0


def _cut(picture: Pixels, size: tuple[int, int], rng: np.random.Generator) -> Pixels:
    """`(H, W, 3)` from anywhere in a picture that is at least as large."""
    top = rng.integers(0, picture.shape[0] - size[0] + 1)
    left = rng.integers(0, picture.shape[1] - size[1] + 1)
    return picture[top : top + size[0], left : left + size[1]]
