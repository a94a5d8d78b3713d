"""Pixel errors, and the percentage of correct keypoints with the normaliser named.

    errors = pixel_errors(found, truth, known)                    # (P, J), NaN where a joint was not labelled
    size = normaliser_sizes("torso", joints, truth, known)        # (P,), in pixels
    correct(errors, size, 0.2)                                    # (P, J): 1, 0, or NaN

| normaliser | what it is | of |
|---|---|---|
| `torso` | distance from the left shoulder to the right hip | FLIC, LSP (PCK@0.2) |
| `head` | 0.6 × the diagonal of the head's box; without one, head top to neck | MPII, PoseTrack (PCKh@0.5) |
| `box` | longer side of the box | PennAction, JHMDB (PCK@0.2) |
| `pixels` | 1 | laboratories |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from domains.video.skeletons.joints import JointSet
from pipelines.errors import ConfigurationError

__all__ = ["Normaliser", "check_normaliser", "correct", "normaliser_sizes", "pck_curve", "pixel_errors"]

Normaliser = Literal["torso", "head", "box", "pixels"]
Values = NDArray[np.float64]

_ENDS: dict[str, tuple[tuple[str, str], ...]] = {
    "torso": (("left_shoulder", "right_hip"),),
    "head": (("head_top", "neck"), ("head_top", "head_bottom")),
}


def pixel_errors(found: NDArray[np.floating], truth: NDArray[np.floating], known: NDArray[np.bool_]) -> Values:
    """Distances `(..., J)` in pixels between points `(..., J, 2)`; NaN where a joint was not labelled.

    A point that is not finite is infinitely far off.
    """
    apart = np.hypot(*np.moveaxis(found.astype(np.float64) - truth, -1, 0))
    return np.where(known, np.where(np.isfinite(apart), apart, np.inf), np.nan)


def check_normaliser(name: Normaliser, joints: JointSet) -> None:
    """Raises `ConfigurationError` where a set of joints lacks those that a normaliser measures."""
    ends = _ENDS.get(name, ())
    if name != "head" and ends and _pair(joints, ends) is None:
        raise ConfigurationError(
            f"{joints.name} has no {' and '.join(ends[0])}, between which the normaliser {name!r} measures",
            hint="Use judge.normaliser box or pixels.",
        )


def normaliser_sizes(
    name: Normaliser,
    joints: JointSet,
    truth: NDArray[np.floating],
    known: NDArray[np.bool_],
    *,
    boxes: Sequence[tuple[float, float, float, float]] = (),
    heads: Sequence[float] = (),
) -> Values:
    """Pixels that errors are told in, for each person `(P,)`; NaN where they cannot be measured.

    Args:
        name: The normaliser.
        joints: The joints.
        truth: `(P, J, 2)`.
        known: `(P, J)`.
        boxes: Left, top, width, height of each person, for `box`.
        heads: Size of each head where it was labelled (0 where not), for `head`.
    """
    persons = len(truth)
    if name == "pixels":
        return np.ones(persons)
    if name == "box":
        return np.array([max(box[2], box[3]) for box in boxes], dtype=np.float64)
    pair = _pair(joints, _ENDS[name])
    sizes = np.full(persons, np.nan)
    if pair is not None:
        ends = list(pair)
        length = np.linalg.norm(truth[:, ends[0]].astype(np.float64) - truth[:, ends[1]], axis=-1)
        sizes = np.where(known[:, ends].all(1), length, np.nan)
    if name == "head" and len(heads):
        told = np.asarray(heads, dtype=np.float64)
        sizes = np.where(told > 0, told, sizes)
    return np.where(sizes > 0, sizes, np.nan)


def correct(errors: Values, sizes: Values, threshold: float) -> Values:
    """1 where an error `(P, J)` is at most `threshold` of the person's size `(P,)`, 0 where not, NaN where unknown."""
    shares = errors / sizes[:, None]
    return np.where(np.isnan(shares), np.nan, (shares <= threshold).astype(np.float64))


def pck_curve(errors: Values, sizes: Values, thresholds: Sequence[float]) -> Values:
    """PCK over all known joints at each threshold `(len(thresholds),)`; NaN where no joint is known."""
    shares = errors / sizes[:, None]
    shares = shares[~np.isnan(shares)]
    if not shares.size:
        return np.full(len(thresholds), np.nan)
    return np.array([(shares <= one).mean() for one in thresholds])


def _pair(joints: JointSet, choices: Sequence[tuple[str, str]]) -> tuple[int, int] | None:
    for first, second in choices:
        if first in joints.joints and second in joints.joints:
            return joints.joints.index(first), joints.joints.index(second)
    return None
