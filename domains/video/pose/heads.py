"""What is told in heads, as MPII and PoseTrack do: PCKh of each joint, and PoseTrack's average precision of each joint.

A person whose head cannot be measured is in neither number, and nor is the pose that was looked for at its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from domains.video.keypoints.pck import correct, normaliser_sizes
from domains.video.keypoints.posetrack import HeadedPerson, MatchedJoints, ScoredPerson, joint_precision, match_joints
from domains.video.pose.judging import judged_persons, observed_arrays
from domains.video.pose.labels import LabelledFrame
from domains.video.pose.settings import JudgeSettings
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case
from pipelines.task import Observation

__all__ = ["judge_heads", "told_in_heads"]

_NEAR = 0.5
"""Share of the head, in both numbers."""


def told_in_heads(frames: Iterable[LabelledFrame], joints: JointSet, judge: JudgeSettings) -> bool:
    """Whether a set is judged in heads: asked for, PoseTrack's joints, labelled heads, or several persons a picture.

    Somebody's head must be measurable.
    """
    held = [frame for frame in frames if judged_persons(frame)]
    if not any((_heads(frame, joints) > 0).any() for frame in held):
        return False
    persons = [judged_persons(frame) for frame in held]
    asked = judge.normaliser == "head" or joints.name == "posetrack17"
    return asked or any(len(one) > 1 or any(person.head > 0 for person in one) for one in persons)


def judge_heads(
    cases: Sequence[Case],
    observed: Mapping[str, Observation],
    frames: Mapping[str, LabelledFrame],
    joints: JointSet,
) -> dict[tuple[str, str], float]:
    """`(joint, pckh)` and `(joint, posetrack_ap)` → number; NaN for a joint that is labelled nowhere."""
    right, pictures = [], []
    for case in cases:
        frame, seen = frames[case.case_id], observed.get(case.case_id)
        heads = _heads(frame, joints)
        known = np.stack([one.known for one in judged_persons(frame)])
        # Without a prediction, whatever was labelled is as wrong as can be.
        errors = observed_arrays(seen)[0] if seen else np.where(known, np.inf, np.nan)
        right.append(correct(errors, heads, _NEAR))
        told = (str(seen["points"]), str(seen["scores"])) if seen else ("[]", "[]")
        pictures.append(_matched(frame, joints, *told))
    share = np.concatenate(right)  # (P, J)
    counts = (~np.isnan(share)).sum(0)
    pckh = np.where(counts, np.nansum(share, 0) / np.maximum(counts, 1), np.nan)
    precision = joint_precision(pictures)
    rows = {("pckh", name): value for name, value in zip(joints.joints, pckh, strict=True)}
    rows |= {("posetrack_ap", name): value for name, value in zip(joints.joints, precision, strict=True)}
    return {(name, metric): float(value) for (metric, name), value in rows.items()}


@lru_cache(maxsize=2**16)
def _heads(frame: LabelledFrame, joints: JointSet) -> NDArray[np.float64]:
    """Pixels of the heads of those who are judged `(P,)`; NaN where one cannot be measured."""
    persons = judged_persons(frame)
    sizes = normaliser_sizes(
        "head",
        joints,
        np.stack([one.points for one in persons]),
        np.stack([one.known for one in persons]),
        heads=[one.head for one in persons],
    )
    sizes.flags.writeable = False
    return sizes


@lru_cache(maxsize=2**16)
def _matched(frame: LabelledFrame, joints: JointSet, points: str, scores: str) -> MatchedJoints:
    """A picture's matches do not depend on others, so resamples of the groups share them."""
    heads, persons = _heads(frame, joints), judged_persons(frame)
    measured = np.flatnonzero(heads > 0)
    labelled = [HeadedPerson(persons[at].points, persons[at].known, float(heads[at])) for at in measured]
    places, sure = (np.array(json.loads(text), np.float64) for text in (points, scores))
    seen = [ScoredPerson(places[at], sure[at]) for at in measured] if len(places) else []
    return match_joints(labelled, seen, len(joints))
