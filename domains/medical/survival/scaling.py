"""How features are brought to one scale, measured on the training part.

>>> centre, scale = measure_scale(np.array([[1.0], [2.0], [3.0], [900.0]]), "robust")
>>> centre.tolist()
[2.5]
>>> measure_scale(np.array([[7.0], [7.0]]), "standard")[1].tolist()  # a constant says nothing and divides by one
[1.0]
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["apply_scale", "measure_scale"]

_NORMAL_QUARTILES = 1.3489795003921634
"""Distance between the quartiles of a normal distribution, in standard deviations."""


def measure_scale(
    values: NDArray[np.floating], how: Literal["robust", "standard"]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centre and scale of each column, each `(F,)`.

    `standard` is mean and standard deviation. `robust` is the median and the distance between the quartiles, in
    standard deviations of a normal distribution: in these tables single cells are thousands of deviations away. Where
    the quartiles are equal (copy numbers that are mostly 0) the standard deviation takes its place.

    Args:
        values: `(N, F)`, NaN where nothing was measured.
        how: Which.
    """
    values = np.asarray(values, dtype=np.float64)
    empty = np.isnan(values).all(axis=0)
    filled = np.where(empty[None], 0.0, values)
    deviation = np.nanstd(filled, axis=0)
    if how == "standard":
        centre, scale = np.nanmean(filled, axis=0), deviation
    else:
        low, centre, high = np.nanquantile(filled, [0.25, 0.5, 0.75], axis=0)
        scale = np.where(high > low, (high - low) / _NORMAL_QUARTILES, deviation)
    return centre, np.where(scale > 0, scale, 1.0)


def apply_scale(
    values: NDArray[np.floating], centre: NDArray[np.float64], scale: NDArray[np.float64], *, clip: float | None
) -> NDArray[np.float64]:
    """Scaled features, missing ones 0, as the network sees them: `(N, F)`."""
    scaled = np.nan_to_num((np.asarray(values, dtype=np.float64) - centre) / scale, nan=0.0)
    return scaled if clip is None else np.clip(scaled, -clip, clip)
