"""Clips of a fixed length, normalised, and changed at random: pure functions of coordinates and a generator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["add_noise", "flip", "normalise", "resample", "rotate_and_scale", "window"]

Coordinates = NDArray[np.float32]
Seen = NDArray[np.float32]


def normalise(coordinates: Coordinates, seen: Seen, centre: Sequence[int]) -> Coordinates:
    """Removes place and size: the centre of the clip goes to 0, its root-mean-square distance from there to 1.

    One shift and one scale for all frames and persons, so that the way a body moves, and who stands where, stay.

    Args:
        coordinates: `(P, T, J, D)`.
        seen: `(P, T, J)`, 1 or 0.
        centre: Joints whose mean is the centre; all of them where none of these was seen.

    Returns:
        float32 `(P, T, J, D)`, 0 at unseen joints. A clip without any seen joint is 0 throughout.
    """
    there = seen > 0
    middle = np.zeros_like(there)
    middle[:, :, list(centre)] = there[:, :, list(centre)]
    chosen = middle if middle.any() else there
    if not chosen.any():
        return np.zeros_like(coordinates, dtype=np.float32)
    shifted = coordinates.astype(np.float64) - coordinates[chosen].mean(0, dtype=np.float64)
    own = shifted[there] - _frame_means(shifted, there)[there]
    size = math.sqrt(float(np.square(own).sum(1).mean()))
    shifted /= size if size > 1e-12 else 1.0
    return np.where(there[..., None], shifted, 0.0).astype(np.float32)


def _frame_means(coordinates: NDArray[np.float64], there: NDArray[np.bool_]) -> NDArray[np.float64]:
    weights = there[..., None]
    sums = (coordinates * weights).sum(2, keepdims=True)
    means: NDArray[np.float64] = sums / np.maximum(weights.sum(2, keepdims=True), 1)
    return np.broadcast_to(means, coordinates.shape)


def resample(
    coordinates: Coordinates, seen: Seen, frames: int, *, start: float = 0.0, stop: float | None = None
) -> tuple[Coordinates, Seen]:
    """Linear interpolation in time to `frames` frames, from `start` to `stop` (frame numbers, ends included).

    A joint between two frames was seen where both of them (or the only one that counts) saw it.

    Args:
        coordinates: `(P, T, J, D)`.
        seen: `(P, T, J)`.
        frames: Frames of the result.
        start: First frame, may lie between two.
        stop: Last frame; the end of the clip where left out.
    """
    last = coordinates.shape[1] - 1
    places = np.linspace(start, last if stop is None else stop, frames)
    below = np.clip(np.floor(places).astype(int), 0, last)
    above = np.minimum(below + 1, last)
    share = (places - below).astype(np.float32)
    mixed = coordinates[:, below] + share[:, None, None] * (coordinates[:, above] - coordinates[:, below])
    both = np.where(share[:, None] > 0, np.minimum(seen[:, below], seen[:, above]), seen[:, below])
    return mixed.astype(np.float32), both.astype(np.float32)


def window(frames: int, shortest: float, rng: np.random.Generator) -> tuple[float, float]:
    """First and last frame of a random piece that holds at least a share `shortest` of `frames`."""
    length = (frames - 1) * rng.uniform(shortest, 1.0)
    start = rng.uniform(0.0, frames - 1 - length)
    return float(start), float(start + length)


def flip(coordinates: Coordinates, seen: Seen, order: Sequence[int]) -> tuple[Coordinates, Seen]:
    """Left for right: the first coordinate changes its sign, and joints change places.

    Args:
        coordinates: `(P, T, J, D)`, centred.
        seen: `(P, T, J)`.
        order: For each joint the one it becomes.
    """
    mirrored = coordinates[:, :, list(order)].copy()
    mirrored[..., 0] *= -1
    return mirrored, seen[:, :, list(order)]


def rotate_and_scale(
    coordinates: Coordinates, *, degrees: float, scale: tuple[float, float], shear: float, rng: np.random.Generator
) -> Coordinates:
    """A random turn, scale and shear of the picture plane (of three axes: a turn about the second, upright one).

    Args:
        coordinates: `(..., D)`, centred, `D` 2 or 3.
        degrees: Largest turn.
        scale: Smallest and largest factor, drawn for each axis.
        shear: Largest share of one axis that is added to another.
        rng: Where the numbers come from.
    """
    axes = coordinates.shape[-1]
    angle = math.radians(rng.uniform(-degrees, degrees))
    turn = np.eye(axes)
    first, second = (0, 1) if axes == 2 else (0, 2)
    turn[[first, first, second, second], [first, second, first, second]] = (
        math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle),
    )  # fmt: skip
    sheared = np.eye(axes) + rng.uniform(-shear, shear, (axes, axes)) * (1 - np.eye(axes))
    matrix = turn @ sheared @ np.diag(rng.uniform(*scale, axes))
    return (coordinates @ matrix.T).astype(np.float32)


def add_noise(coordinates: Coordinates, deviation: float, rng: np.random.Generator) -> Coordinates:
    """Each joint of each frame displaced by normal noise; in units of the body's size."""
    return coordinates + rng.normal(0.0, deviation, coordinates.shape).astype(np.float32)
