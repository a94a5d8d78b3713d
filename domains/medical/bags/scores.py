"""Numbers of a set of judged bags, from arrays, quick enough for thousands of resamples.

Each equals what scikit-learn computes where it has it; its functions check their input anew at every call, which costs
a hundred times as long as the number itself.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "area_under_roc",
    "average_precision",
    "brier_score",
    "calibration_error",
    "claims",
    "class_counts",
    "f1_score",
    "likelihood",
    "ratio",
]

Flags = NDArray[np.bool_]
Scores = NDArray[np.floating[Any]]
_BINS = 10
_SMALLEST = 1e-6


def area_under_roc(truth: Flags, score: Scores) -> float:
    """Area under the ROC curve, ties counted half; NaN where all are of one class."""
    above, below = score[truth], np.sort(score[~truth])
    if not len(above) or not len(below):
        return math.nan
    beaten = np.searchsorted(below, above, "left") + np.searchsorted(below, above, "right")
    return float(beaten.sum() / (2 * len(above) * len(below)))


def average_precision(truth: Flags, score: Scores) -> float:
    """Precision, averaged over the steps in recall, without interpolation; NaN where none is positive."""
    if not truth.any():
        return math.nan
    hit, claimed = claims(truth, score)
    return float((np.diff(hit, prepend=0) * hit / claimed).sum() / hit[-1])


def claims(truth: Flags, score: Scores) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """True positives, and all that is claimed, where the threshold is each of the scores in turn, from the highest."""
    order = np.argsort(-score, kind="stable")
    ordered = score[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))  # the last of equal scores
    return np.cumsum(truth[order], dtype=np.intp)[ends], ends + 1


def class_counts(truth: Flags, decided: Flags) -> tuple[NDArray[np.intp], ...]:
    """True positives, false positives, false negatives and true negatives of each class, from `(n, classes)`."""
    hit = (truth & decided).sum(0)
    claimed, there = decided.sum(0), truth.sum(0)
    return hit, claimed - hit, there - hit, len(truth) - claimed - there + hit


def ratio(above: float, below: float) -> float:
    """A quotient; NaN over nothing."""
    return float(above / below) if below else math.nan


def f1_score(hit: float, invented: float, missed: float) -> float:
    """2 TP / (2 TP + FP + FN) of one class; NaN where it neither is nor is claimed."""
    return ratio(2 * hit, 2 * hit + invented + missed)


def brier_score(truth: Flags, probability: Scores, *, several: bool) -> float:
    """Mean squared distance of probabilities `(n, classes)` from the truth, of two classes from 0 to 1.

    For exclusive classes the squares are summed over classes (halved for two, where both say the same); for several
    labels they are averaged over them.
    """
    squares = np.square(probability - truth)
    if several:
        return float(squares.mean())
    return float(squares.sum(1).mean() / (2 if truth.shape[1] == 2 else 1))


def calibration_error(sure: Scores, right: Flags, bins: int = _BINS) -> float:
    """Expected calibration error: |share that is right − mean probability| over bins of equal width, by their size."""
    place = np.minimum((sure * bins).astype(np.intp), bins - 1)
    count = np.bincount(place, minlength=bins)
    gaps = np.abs(np.bincount(place, right, bins) - np.bincount(place, sure, bins))
    return float(gaps[count > 0].sum() / len(sure))


def likelihood(truth: Flags, probability: Scores) -> float:
    """Geometric mean of the probability of the truth: exp(−log loss). Probabilities below 1e-6 count as that."""
    of_truth = np.where(truth, probability, 1 - probability) if probability.ndim == 2 else probability
    return float(np.exp(np.log(np.clip(of_truth, _SMALLEST, 1.0)).mean()))
