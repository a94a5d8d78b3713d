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

__all__ = [
    "HeadedPerson",
    "MatchedJoints",
    "ScoredPerson",
    "joint_precision",
    "match_joints",
    "posetrack_precision",
]

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
    pairs = zip(truths, found, strict=True)
    return joint_precision([match_joints(labelled, seen, joints, threshold=threshold) for labelled, seen in pairs])


@dataclass(frozen=True, eq=False)
class MatchedJoints:
    """What became of the joints of a picture, whatever other pictures there are.

    Attributes:
        scores: `(P, J)` of the found persons; NaN for a joint that is not told.
        right: `(P, J)` bool, whether each lies at that joint of its person's match.
        labelled: `(J,)`, how often each joint must be found.
    """

    scores: Values
    right: NDArray[np.bool_]
    labelled: NDArray[np.int64]


def match_joints(
    labelled: Sequence[HeadedPerson], seen: Sequence[ScoredPerson], joints: int, *, threshold: float = _NEAR
) -> MatchedJoints:
    """Gives the found persons of a picture to its labelled ones, and judges each joint.

    Args:
        labelled: Labelled persons.
        seen: Found persons.
        joints: How many joints there are.
        threshold: Share of the head up to which a joint is right.
    """
    near = _near(labelled, seen, joints, threshold)  # (P, G, J)
    scores, right = np.full((len(seen), joints), np.nan), np.zeros((len(seen), joints), dtype=bool)
    for at, person in enumerate(seen):
        told = np.isfinite(person.points).all(-1)
        scores[at, told] = person.scores[told]
    for at, truth in _partners(labelled, near).items():
        right[at] = near[at, truth]
    return MatchedJoints(scores, right, sum((one.known.astype(np.int64) for one in labelled), np.zeros(joints, int)))


def joint_precision(pictures: Sequence[MatchedJoints]) -> Values:
    """Average precision of each joint `(J,)` over at least one picture; NaN for a joint that is labelled nowhere."""
    scores = np.concatenate([one.scores for one in pictures])  # (P, J)
    right = np.concatenate([one.right for one in pictures])
    counts = np.sum([one.labelled for one in pictures], 0)
    told = ~np.isnan(scores)
    return np.array(
        [
            _average(scores[told[:, joint], joint], right[told[:, joint], joint], int(count))
            for joint, count in enumerate(counts)
        ]
    )


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


def _average(scores: Values, right: NDArray[np.bool_], count: int) -> float:
    """Area under the best precision at each recall or a higher one."""
    if not count:
        return float("nan")
    hits = right[np.argsort(-scores, kind="stable")].astype(float).cumsum()
    recall = np.concatenate([[0.0], hits / count, [1.0]])
    precision = np.concatenate([[0.0], hits / np.arange(1, len(hits) + 1), [0.0]])
    best = np.maximum.accumulate(precision[::-1])[::-1]
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(((recall[steps] - recall[steps - 1]) * best[steps]).sum())
