"""Random changes of intensity in training patches, for volumes; images take `albumentations_adapter`.

Both are called as `change(image, seed)`: an image `(C, *S)` in float32 gives one of the same shape, and the same seed
gives the same image.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from domains.medical.segmentation.settings import AugmentSettings

__all__ = ["IntensityChange", "intensity_change"]

IntensityChange = Callable[[Tensor, int], Tensor]


def intensity_change(settings: AugmentSettings, rank: int, *, unit: bool) -> IntensityChange:
    """The random change of intensity that the settings ask for.

    Args:
        settings: Probabilities and ranges.
        rank: 3 uses MONAI, 2 uses albumentations.
        unit: Whether images lie between 0 and 1.
    """
    if rank == 2:
        from domains.medical.segmentation.albumentations_adapter import picture_change

        return picture_change(settings, unit=unit)
    return volume_change(settings)


def volume_change(settings: AugmentSettings) -> IntensityChange:
    """Noise, blur, brightness, contrast, coarser resolution and gamma by MONAI, in nnU-Net's order."""
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.array import (
        RandAdjustContrast,
        RandGaussianNoise,
        RandGaussianSmooth,
        RandScaleIntensity,
        RandScaleIntensityFixedMean,
    )
    from monai.transforms.spatial.array import RandSimulateLowResolution

    blur = settings.blur.sigma
    # MONAI takes ranges as what is added to 1.
    brightness, contrast = (
        (factor[0] - 1, factor[1] - 1) for factor in (settings.brightness.factor, settings.contrast.factor)
    )
    gamma = settings.gamma
    steps = [
        (settings.noise.probability, RandGaussianNoise(settings.noise.probability, std=settings.noise.deviation)),
        (settings.blur.probability, RandGaussianSmooth(blur, blur, blur, prob=settings.blur.probability)),
        (settings.brightness.probability, RandScaleIntensity(brightness, settings.brightness.probability)),
        (
            settings.contrast.probability,
            RandScaleIntensityFixedMean(
                settings.contrast.probability, contrast, preserve_range=True, fixed_mean=True, channel_wise=False
            ),
        ),
        (
            settings.low_resolution.probability,
            RandSimulateLowResolution(settings.low_resolution.probability, zoom_range=settings.low_resolution.zoom),
        ),
        (gamma.probability * 0.3, RandAdjustContrast(gamma.probability * 0.3, gamma.factor, True, retain_stats=True)),
        (gamma.probability, RandAdjustContrast(gamma.probability, gamma.factor, retain_stats=True)),
    ]
    chain = Compose([step for probability, step in steps if probability > 0])

    def change(image: Tensor, seed: int) -> Tensor:
        chain.set_random_state(seed=seed)
        changed = torch.as_tensor(chain(image), dtype=torch.float32)
        return changed.as_subclass(Tensor).contiguous()

    return change
