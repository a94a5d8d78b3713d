"""Object keypoint similarity, and COCO's average precision and recall over it, in NumPy.

    scores = evaluate_oks(truths, found, sigmas)      # lists of pictures
    scores["AP"], scores["AP50"], scores["AR"]

Equal to `cocoeval` of cocoapi for keypoints: variances are (2 sigma)², a person without labelled joints and a crowd
count for nothing, twenty detections of a picture are looked at, precision is interpolated at 101 recalls.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AREAS",
    "FoundPerson",
    "MatchedPicture",
    "TruePerson",
    "average_precision",
    "evaluate_oks",
    "match_picture",
    "object_keypoint_similarity",
]

Values = NDArray[np.float64]

AREAS: Mapping[str, tuple[float, float]] = {"all": (0.0, 1e10), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
"""Areas of persons in pixels; small ones are not judged by COCO."""
_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_MOST = 20
_EPS = float(np.spacing(1))


@dataclass(frozen=True, eq=False)
class TruePerson:
    """A labelled person.

    Attributes:
        points: `(J, 2)`.
        known: `(J,)` bool.
        box: Left, top, width, height.
        area: Pixels.
        crowd: Whether it stands for many, of whom any number may be found.
        ignored: Whether it counts for nothing; one without a labelled joint does in any case.
    """

    points: NDArray[np.floating]
    known: NDArray[np.bool_]
    box: tuple[float, float, float, float]
    area: float
    crowd: bool = False
    ignored: bool = field(default=False)

    @property
    def counts(self) -> bool:
        """Whether it must be found."""
        return not (self.ignored or self.crowd) and bool(self.known.any())


@dataclass(frozen=True, eq=False)
class FoundPerson:
    """A person that was found: `(J, 2)` points, NaN for a joint that is not told, and a score."""

    points: NDArray[np.floating]
    score: float

    @property
    def area(self) -> float:
        """Of the box around all joints that are told; 0 where none is."""
        told = self.points[np.isfinite(self.points).all(-1)]
        return float(np.prod(np.ptp(told, axis=0))) if len(told) else 0.0


def object_keypoint_similarity(found: NDArray[np.floating], truth: TruePerson, sigmas: Sequence[float]) -> float:
    """Mean over labelled joints of exp(-d² / (2 area (2 sigma)²)), 0 to 1.

    Where no joint is labelled, distances are those from the box enlarged twofold, and all joints count. A joint that is
    not told is infinitely far off.
    """
    variances = (2 * np.asarray(sigmas, np.float64)) ** 2
    if truth.known.any():
        apart = (found.astype(np.float64) - truth.points)[truth.known]
        variances = variances[truth.known]
    else:
        left, top, width, height = truth.box
        low = np.array([left - width, top - height])
        high = np.array([left + 2 * width, top + 2 * height])
        apart = np.maximum(0, low - found) + np.maximum(0, found - high)
    squared = np.square(apart).sum(-1)
    exponent = np.where(np.isfinite(squared), squared, np.inf) / variances / (truth.area + _EPS) / 2
    return float(np.exp(-exponent).mean())


def evaluate_oks(
    truths: Sequence[Sequence[TruePerson]],
    found: Sequence[Sequence[FoundPerson]],
    sigmas: Sequence[float],
    *,
    most: int = _MOST,
) -> dict[str, float]:
    """COCO's ten numbers over pictures.

    Args:
        truths: Labelled persons of each picture.
        found: Found persons of each picture.
        sigmas: Of each joint, as COCO publishes them (not doubled).
        most: Detections of a picture that are looked at, those with the highest scores.

    Returns:
        `AP`, `AP50`, `AP75`, `AP_medium`, `AP_large`, and the same of `AR`; NaN where nobody must be found.

    Raises:
        ValueError: There are not as many lists of found persons as of labelled ones.
    """
    if len(truths) != len(found):
        raise ValueError(f"{len(found)} pictures of found persons for {len(truths)} of labelled ones")
    numbers: dict[str, float] = {}
    for name, limits in AREAS.items():
        pictures = [
            match_picture(labelled, seen, sigmas, limits=limits, most=most)
            for labelled, seen in zip(truths, found, strict=True)
        ]
        got = average_precision(pictures)
        if name == "all":
            numbers |= got
        else:
            numbers |= {f"{key}_{name}": got[key] for key in ("AP", "AR")}
    return numbers


@dataclass(frozen=True, eq=False)
class MatchedPicture:
    """What became of the found persons of a picture, whatever other pictures there are.

    Attributes:
        scores: `(N,)`, from the highest.
        hits: `(10, N)` bool, whether each has a match at each similarity.
        ignored: `(10, N)` bool, whether it counts for nothing.
        needed: Persons that must be found.
    """

    scores: Values
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    needed: int


def match_picture(
    labelled: Sequence[TruePerson],
    found: Sequence[FoundPerson],
    sigmas: Sequence[float],
    *,
    limits: tuple[float, float] = AREAS["all"],
    most: int = _MOST,
) -> MatchedPicture:
    """Gives found persons to labelled ones, those with the highest scores first.

    Args:
        labelled: Labelled persons.
        found: Found persons.
        sigmas: Of each joint.
        limits: Areas that are judged.
        most: Found persons that are looked at.
    """
    kept = sorted(found, key=lambda person: -person.score)[:most]
    similar = np.array([[object_keypoint_similarity(one.points, truth, sigmas) for truth in labelled] for one in kept])
    hits, ignored, needed = _match(labelled, kept, similar, limits)
    return MatchedPicture(np.array([one.score for one in kept], np.float64), hits, ignored, needed)


def average_precision(pictures: Sequence[MatchedPicture]) -> dict[str, float]:
    """`AP`, `AP50`, `AP75`, `AR`, `AR50` and `AR75` of pictures; NaN where nobody must be found."""
    needed = sum(one.needed for one in pictures)
    if not needed:
        return dict.fromkeys(("AP", "AP50", "AP75", "AR", "AR50", "AR75"), float("nan"))
    order = np.argsort(-np.concatenate([one.scores for one in pictures]), kind="stable")
    hits = np.concatenate([one.hits for one in pictures], 1)[:, order]  # (T, N)
    passed = np.concatenate([one.ignored for one in pictures], 1)[:, order]
    right, wrong = (hits & ~passed).cumsum(1).astype(float), (~hits & ~passed).cumsum(1).astype(float)
    precision, recall = np.zeros((len(_THRESHOLDS), len(_RECALLS))), np.zeros(len(_THRESHOLDS))
    for row, (true, false) in enumerate(zip(right, wrong, strict=True)):
        if not true.size:
            continue
        recalled = true / needed
        recall[row] = recalled[-1]
        # The best precision at this recall or any higher one.
        best = np.maximum.accumulate((true / (true + false + _EPS))[::-1])[::-1]
        places = np.searchsorted(recalled, _RECALLS, side="left")
        inside = places < len(best)
        precision[row, inside] = best[places[inside]]
    numbers = {"AP": float(precision.mean()), "AR": float(recall.mean())}
    for threshold, at in ((50, 0), (75, 5)):
        numbers |= {f"AP{threshold}": float(precision[at].mean()), f"AR{threshold}": float(recall[at])}
    return numbers


def _match(
    labelled: Sequence[TruePerson], seen: Sequence[FoundPerson], similarity: Values, limits: tuple[float, float]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], int]:
    """For each similarity and found person whether it has a match and whether it counts for nothing, `(T, N)`."""
    passed = np.array([not one.counts or not limits[0] <= one.area <= limits[1] for one in labelled], dtype=bool)
    order = np.argsort(passed, kind="stable")  # those that count come first
    outside = np.array([not limits[0] <= one.area <= limits[1] for one in seen], dtype=bool)
    hits, ignored = (np.zeros((len(_THRESHOLDS), len(seen)), dtype=bool) for _ in range(2))
    for row, threshold in enumerate(_THRESHOLDS):
        taken: set[int] = set()
        for person in range(len(seen)):
            best, match = min(threshold, 1 - 1e-10), -1
            for truth in (int(at) for at in order):
                if truth in taken and not labelled[truth].crowd:
                    continue
                if match >= 0 and not passed[match] and passed[truth]:
                    break  # what counts is preferred to what does not, however similar
                if similarity[person, truth] >= best:
                    best, match = float(similarity[person, truth]), truth
            if match >= 0:
                taken.add(match)
                hits[row, person], ignored[row, person] = True, bool(passed[match])
        ignored[row] |= ~hits[row] & outside
    return hits, ignored, int((~passed).sum())
