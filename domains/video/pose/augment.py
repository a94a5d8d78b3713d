"""Random changes of training samples: a function of the sample and of a generator alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.crops import Box, Crop, box_around
from domains.video.pose.settings import AugmentSettings
from domains.video.skeletons.joints import JointSet

__all__ = ["change_light", "draw_crop", "half_body", "lower_joints"]

_LOWER = ("hip", "knee", "ankle", "foot", "heel", "big_toe", "small_toe")
_ENOUGH, _FEWEST = 8, 3


def lower_joints(joints: JointSet) -> NDArray[np.bool_]:
    """Which joints are of the lower body, by their names; none where the set has no such names."""
    return np.array([name.partition("_")[2] in _LOWER for name in joints.joints])


def half_body(
    points: NDArray[np.floating], known: NDArray[np.bool_], lower: NDArray[np.bool_], rng: np.random.Generator
) -> Box | None:
    """The box around the joints of one half of a body; None where too few are known.

    Args:
        points: `(J, 2)`.
        known: `(J,)`.
        lower: `(J,)`, which joints are of the lower half.
        rng: Draws the half.
    """
    if known.sum() < _ENOUGH or not lower.any() or lower.all():
        return None
    chosen = known & (lower if rng.random() < 0.5 else ~lower)
    return box_around(points, chosen) if chosen.sum() >= _FEWEST else None


def draw_crop(
    box: Box,
    margin: float,
    size: tuple[int, int],
    settings: AugmentSettings,
    rng: np.random.Generator,
    *,
    mirrored: bool,
) -> tuple[Crop, bool]:
    """A random cut around a box, and whether left and right are swapped in it.

    Args:
        box: The box.
        margin: Factor of its sides, before it is changed by chance.
        size: Height and width of the cut.
        settings: Ranges.
        rng: Draws.
        mirrored: Whether the set of joints has mirror images.
    """
    flip = mirrored and bool(rng.random() < settings.flip)
    crop = Crop.around(
        box,
        size,
        margin=margin * rng.uniform(1 - settings.scale, 1 + settings.scale),
        degrees=rng.uniform(-settings.rotation, settings.rotation),
        shift=rng.uniform(-settings.shift, settings.shift, 2).tolist(),
        flip=flip,
    )
    return crop, flip


def change_light(
    frames: Sequence[NDArray[np.uint8]], amount: float, rng: np.random.Generator
) -> list[NDArray[np.uint8]]:
    """Another brightness and contrast, the same for all frames of a clip."""
    if not amount:
        return list(frames)
    contrast, brightness = rng.uniform(1 - amount, 1 + amount), rng.uniform(-amount, amount) * 128
    table = np.clip((np.arange(256) - 128) * contrast + 128 + brightness, 0, 255).astype(np.uint8)
    return [table[frame] for frame in frames]
