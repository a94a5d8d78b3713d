"""How far predicted survival is from what happened: the Brier score with weights for censoring (Graf, 1999).

>>> never = StepFunction(np.array([]), np.array([]))  # nobody is censored
>>> score = brier_of_patients(np.array([[0.9, 0.2]]), [1.5], [1], [1.0, 2.0], never)
>>> score.round(4).tolist()  # alive at 1, dead at 2
[[0.01, 0.04]]
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domains.medical.survival.kaplan_meier import StepFunction

__all__ = ["brier_of_patients", "integrated"]


def brier_of_patients(
    survival: NDArray[np.floating], time: ArrayLike, event: ArrayLike, times: ArrayLike, censoring: StepFunction
) -> NDArray[np.float64]:
    """Weighted squared error of each patient at each time; its mean over patients is the Brier score.

    At time `t`, a patient with an event until `t` gives `S(t)² / G(time)`, one who is still followed after `t` gives
    `(1 - S(t))² / G(t)`, and one censored until `t` gives nothing: the others stand for that one by their weights.

    Args:
        survival: `(N, T)`, predicted.
        time: `(N,)`.
        event: `(N,)`, 1 where the event was seen.
        times: `(T,)`, all of them where `G` is above zero.
        censoring: `G`, the probability of not being censored yet, best from the training part.

    Returns:
        `(N, T)`; not bounded by 1, because of the weights.
    """
    time, at = np.asarray(time, dtype=float)[:, None], np.asarray(times, dtype=float)[None]
    dead = np.asarray(event).astype(bool)[:, None] & (time <= at)
    followed = time > at
    # Times after the last one asked for have no part in it, and there G may be zero.
    own = censoring.at(np.minimum(time, at.max()))
    return np.where(dead, survival**2 / own, 0.0) + np.where(followed, (1 - survival) ** 2 / censoring.at(at), 0.0)


def integrated(values: NDArray[np.floating], times: ArrayLike) -> NDArray[np.float64]:
    """Mean over time, along straight lines between the times: `(N, T)` to `(N,)`."""
    at = np.asarray(times, dtype=float)
    return np.asarray(np.trapezoid(values, at, axis=-1) / (at[-1] - at[0]))
