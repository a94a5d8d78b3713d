"""The one place of this domain that knows albumentations: random zoom and colour, seeded for each sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from domains.reid.images import Pixels

if TYPE_CHECKING:
    from domains.reid.settings import AugmentSettings

__all__ = ["PictureChange", "picture_change"]

PictureChange = Callable[[Pixels, int], Pixels]
"""A picture and a seed → the changed picture."""


def picture_change(settings: AugmentSettings, size: tuple[int, int]) -> PictureChange | None:
    """Zoom (a cut of random size and shape, resized), rotation, colour and blur; None where nothing is asked for.

    Args:
        settings: Probabilities and ranges.
        size: Height and width that a zoom ends with.
    """
    colour = settings.colour
    if not (settings.zoom or settings.rotation or colour.probability or settings.blur):
        return None
    # Importing it would otherwise ask a server for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    steps: list[albumentations.BasicTransform] = []
    if settings.rotation:
        steps.append(albumentations.Rotate((-settings.rotation, settings.rotation), p=0.5))
    if settings.zoom:
        steps.append(albumentations.RandomResizedCrop(size, scale=settings.zoom, ratio=_ratio(size), p=1.0))
    if colour.probability:
        spread = [(1 - width, 1 + width) for width in (colour.brightness, colour.contrast, colour.saturation)]
        steps.append(albumentations.ColorJitter(*spread, (-colour.hue, colour.hue), p=colour.probability))
    if settings.blur:
        steps.append(albumentations.GaussianBlur((0, 0), (0.3, 1.2), p=settings.blur))
    chain = albumentations.Compose(steps)

    def change(picture: Pixels, seed: int) -> Pixels:
        chain.set_random_seed(seed)
        return np.asarray(chain(image=np.ascontiguousarray(picture))["image"], dtype=np.uint8)

    return change


def _ratio(size: tuple[int, int]) -> tuple[float, float]:
    """Width over height of a cut: within 3 to 4 of the network's own, as is usual for squares."""
    return 0.75 * size[1] / size[0], 4 / 3 * size[1] / size[0]
