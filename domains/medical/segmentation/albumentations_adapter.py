"""The one place that knows albumentations: random changes of colour in pictures, seeded for each sample."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from domains.medical.segmentation.augment import IntensityChange
    from domains.medical.segmentation.settings import AugmentSettings

__all__ = ["picture_change"]


def picture_change(settings: AugmentSettings, *, unit: bool) -> IntensityChange:
    """Brightness, contrast, gamma, hue, blur, coarser resolution and noise of a picture.

    Args:
        settings: Probabilities and ranges; `hue` needs three channels.
        unit: Whether pictures lie between 0 and 1; others are carried there and back by their own range.
    """
    # Importing it would otherwise ask a server for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations

    def spread(factor: tuple[float, float]) -> tuple[float, float]:
        return factor[0] - 1, factor[1] - 1

    gamma, blur, zoom = settings.gamma.factor, settings.blur.sigma, settings.low_resolution.zoom
    steps = [
        albumentations.RandomBrightnessContrast(
            spread(settings.brightness.factor), (0, 0), p=settings.brightness.probability
        ),
        albumentations.RandomBrightnessContrast(
            (0, 0), spread(settings.contrast.factor), p=settings.contrast.probability
        ),
        albumentations.RandomGamma((100 * gamma[0], 100 * gamma[1]), p=settings.gamma.probability),
        albumentations.GaussianBlur((0, 0), blur, p=settings.blur.probability),
        albumentations.Downscale(zoom, p=settings.low_resolution.probability),
        albumentations.GaussNoise((0, settings.noise.deviation), p=settings.noise.probability),
    ]
    colour = albumentations.ColorJitter((1, 1), (1, 1), (0.8, 1.2), (-0.05, 0.05), p=settings.hue)
    plain = albumentations.Compose([step for step in steps if step.p > 0])
    coloured = albumentations.Compose([step for step in [colour, *steps] if step.p > 0])

    def change(image: Tensor, seed: int) -> Tensor:
        chain = coloured if image.shape[0] == 3 and unit else plain
        low, high = (0.0, 1.0) if unit else (float(image.min()), float(image.max()))
        width = high - low or 1.0
        picture = np.ascontiguousarray(((image.numpy() - low) / width).transpose(1, 2, 0), dtype=np.float32)
        chain.set_random_seed(seed)
        changed = np.asarray(chain(image=picture)["image"], dtype=np.float32).reshape(picture.shape)
        return torch.from_numpy(np.ascontiguousarray(changed.transpose(2, 0, 1)) * width + low)

    return change
