"""PoseTrack's average precision of each joint (its multi-person pose evaluation, `poseval`).

Persons are matched by PCKh: each found person is given to the labelled one of whom it has most joints within half the
size of the head, and of several the best is kept. A joint is then right where it is that near, wrong where it is not,
where its person has no match, or where nobody labelled it; its score orders it, and precision is averaged over recall.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeadedPerson", "ScoredPerson", "posetrack_precision"]

Values = NDArray[np.float64]

_NEAR = 0.5


@dataclass(frozen=True, eq=False)
class HeadedPerson:
    """A labelled person: points `(J, 2)`, which are known `(J,)`, and the size of its head in pixels."""

    points: NDArray[np.floating]
    known: NDArray[np.bool_]
    head: float


@dataclass(frozen=True, eq=False)
class ScoredPerson:
    """A found person: points `(J, 2)` and a score for each joint `(J,)`; NaN for a joint that is not told."""

    points: NDArray[np.floating]
    scores: NDArray[np.floating]


def posetrack_precision(
    truths: Sequence[Sequence[HeadedPerson]],
    found: Sequence[Sequence[ScoredPerson]],
    joints: int,
    *,
    threshold: float = _NEAR,
) -> Values:
    """Average precision of each joint `(J,)` over pictures, 0 to 1; NaN for a joint that is labelled nowhere.

    Args:
        truths: Labelled persons of each picture.
        found: Found persons of each picture.
        joints: How many joints there are.
        threshold: Share of the head up to which a joint is right.

    Raises:
        ValueError: There are not as many lists of found persons as of labelled ones.
    """
    if len(truths) != len(found):
        raise ValueError(f"{len(found)} pictures of found persons for {len(truths)} of labelled ones")
    scores: list[list[float]] = [[] for _ in range(joints)]
    right: list[list[bool]] = [[] for _ in range(joints)]
    count = np.zeros(joints, int)
    for labelled, seen in zip(truths, found, strict=True):
        count += sum((one.known.astype(int) for one in labelled), np.zeros(joints, int))
        near = _near(labelled, seen, joints, threshold)  # (P, G, J)
        partner = _partners(labelled, near)
        for at, person in enumerate(seen):
            truth = partner.get(at)
            for joint in range(joints):
                score = float(person.scores[joint])
                if score != score or not np.isfinite(person.points[joint]).all():
                    continue
                scores[joint].append(score)
                right[joint].append(truth is not None and bool(near[at, truth, joint]))
    return np.array([_average(scores[joint], right[joint], int(count[joint])) for joint in range(joints)])


def _near(
    labelled: Sequence[HeadedPerson], seen: Sequence[ScoredPerson], joints: int, threshold: float
) -> NDArray[np.bool_]:
    near = np.zeros((len(seen), len(labelled), joints), dtype=bool)
    for row, person in enumerate(seen):
        for column, truth in enumerate(labelled):
            apart = np.linalg.norm(person.points.astype(np.float64) - truth.points, axis=-1) / truth.head
            near[row, column] = truth.known & (apart <= threshold)
    return near


def _partners(labelled: Sequence[HeadedPerson], near: NDArray[np.bool_]) -> dict[int, int]:
    """Found person → labelled one: each labelled one keeps the best of those that fit nobody better."""
    if not near.size:
        return {}
    known = np.array([max(int(one.known.sum()), 1) for one in labelled])
    share = near.sum(-1) / known  # (P, G)
    own = share.argmax(1)
    kept = np.zeros_like(share)
    rows = np.arange(len(share))
    kept[rows, own] = share[rows, own]
    best = kept.argmax(0)
    return {int(best[truth]): truth for truth in range(len(labelled)) if kept[best[truth], truth] > 0}


def _average(scores: Sequence[float], right: Sequence[bool], count: int) -> float:
    """Area under the best precision at each recall or a higher one."""
    if not count:
        return float("nan")
    order = np.argsort(-np.asarray(scores), kind="stable")
    hits = np.asarray(right, dtype=float)[order].cumsum() if len(scores) else np.zeros(0)
    recall = np.concatenate([[0.0], hits / count, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * best[steps]).sum())
