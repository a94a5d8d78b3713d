"""Whether patients with an earlier event were given the higher risk: concordance and time-dependent AUC.

>>> concordance([3, 2, 1], [1, 2, 3], [1, 1, 0])
1.0
>>> concordance([2, 2, 1], [1, 2, 3], [1, 1, 0])  # of three pairs one is tied in risk
0.8333333333333334

A risk that is not a number belongs to a patient without a prediction: every pair with that patient counts as wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["TIED_RISK", "concordance", "dynamic_auc"]

TIED_RISK = 1e-8
"""Risks that differ by no more than this are tied, and their pair counts one half."""


def concordance(
    risk: ArrayLike,
    time: ArrayLike,
    event: ArrayLike,
    *,
    weights: ArrayLike | None = None,
    horizon: float | None = None,
) -> float:
    """Share of comparable pairs in which the patient with the earlier event has the higher risk (Harrell, 1996).

    A pair is comparable when the one with the earlier time had an event, or when both times are equal and exactly one
    of the two had an event; that one is the earlier. Two events at one time are not compared. Pairs tied in risk count
    one half.

    With `weights = 1 / G(time)**2`, where `G` is the probability of not being censored yet, and a `horizon` before
    which `G` stays above zero, it is Uno's concordance (2011), which does not depend on how patients were censored.

    Args:
        risk: `(N,)`, higher for an earlier event.
        time: `(N,)`.
        event: `(N,)`, 1 where the event was seen.
        weights: `(N,)`, of a pair by its earlier patient; 1 by default.
        horizon: Only events before it are compared.

    Returns:
        0 to 1; NaN where no pair is comparable.
    """
    risk, time = np.asarray(risk, dtype=float), np.asarray(time, dtype=float)
    seen = np.asarray(event).astype(bool)
    earlier = np.flatnonzero(seen if horizon is None else seen & (time < horizon))
    later = time[earlier, None] < time[None]
    same = (time[earlier, None] == time[None]) & ~seen[None]
    comparable = later | same  # (E, N); a patient is not compared with itself, for it had an event
    score = _won(risk[earlier, None], risk[None])
    weight = (np.ones(len(time)) if weights is None else np.asarray(weights, dtype=float))[earlier, None]
    total = float((weight * comparable).sum())
    return float((weight * comparable * score).sum()) / total if total > 0 else float("nan")


def dynamic_auc(
    risk: ArrayLike, time: ArrayLike, event: ArrayLike, *, at: float, weights: ArrayLike | None = None
) -> float:
    """Area under the ROC curve of events until a time against patients still without one (cumulative cases, dynamic
    controls; Hung and Chiang, 2010).

    Patients censored before are in neither group; the weights make up for those of them who would have had an event.

    Args:
        risk: `(N,)`, for example the predicted probability of an event until `at`.
        time: `(N,)`.
        event: `(N,)`, 1 where the event was seen.
        at: The time.
        weights: `(N,)`, `1 / G(time)` of each patient with an event; 1 by default.

    Returns:
        0 to 1; NaN where one of the two groups is empty.
    """
    risk, time = np.asarray(risk, dtype=float), np.asarray(time, dtype=float)
    case = np.asarray(event).astype(bool) & (time <= at)
    control = time > at
    weight = (np.ones(len(time)) if weights is None else np.asarray(weights, dtype=float))[case]
    total = float(weight.sum() * control.sum())
    if total <= 0:
        return float("nan")
    score = _won(risk[case, None], risk[None, control])
    return float((weight[:, None] * score).sum()) / total


def _won(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 where the first risk is higher, one half where they are tied; 0 where one of them is not a number."""
    apart = first - second
    return (apart > TIED_RISK) + 0.5 * (np.abs(apart) <= TIED_RISK)
