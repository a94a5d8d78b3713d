"""How poses are judged: each joint of each picture, then all joints of a part.

A joint that was not labelled is in no number. A picture whose prediction failed has all its joints wrong, and errors as
long as its diagonal.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from domains.video.keypoints.oks import FoundPerson, MatchedPicture, TruePerson, average_precision, match_picture
from domains.video.keypoints.pck import correct, normaliser_sizes, pixel_errors
from domains.video.pose.estimating import FramePose
from domains.video.pose.labels import LabelledFrame, LabelledPerson
from domains.video.pose.settings import JudgeSettings
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.evaluation import Metric
from pipelines.task import MetricRow, Observation

__all__ = ["METRICS", "judge_frame", "judge_frames", "judged_persons", "observe_frame", "observed_arrays"]

METRICS: Mapping[str, Metric] = {
    "pck": Metric("higher", 0.0, "", "share of labelled joints within the threshold of the normaliser"),
    "pixel_error": Metric("lower", None, "px", "mean distance from the labelled place, in pixels of the picture"),
    "pck_all": Metric("higher", 0.0, "", "the same share over all joints alike", headline=True),
    "pck_area": Metric("higher", 0.0, "", "area under the curve of that share, from 0 to the threshold"),
    "median_error": Metric("lower", None, "px", "median distance from the labelled place over all joints alike"),
    "mean_error": Metric("lower", None, "px", "mean distance from the labelled place over all joints alike"),
    "oks_ap": Metric("higher", 0.0, "", "COCO's average precision over object keypoint similarities .50 to .95"),
    "oks_ap50": Metric("higher", 0.0, "", "the same at a similarity of .50"),
    "oks_ap75": Metric("higher", 0.0, "", "the same at a similarity of .75"),
    "oks_ar": Metric("higher", 0.0, "", "COCO's average recall over the same similarities"),
    "pckh": Metric("higher", 0.0, "", "share of labelled joints within half of the head", label="PCKh@0.5"),
    "posetrack_ap": Metric(
        "higher", 0.0, "", "PoseTrack's average precision of a joint, within half of the head", label="PoseTrack AP"
    ),
}
"""What the numbers mean."""

_STEPS = 101


def judged_persons(frame: LabelledFrame) -> list[LabelledPerson]:
    """Persons that are judged, in the order of their predictions."""
    return [one for one in frame.persons if not one.ignored and one.known.any()]


def judge_frame(
    case: Case,
    result: FramePose | None,
    frame: LabelledFrame,
    joints: JointSet,
    judge: JudgeSettings,
    size: tuple[int, int],
) -> list[MetricRow]:
    """PCK and error of each joint, means over the persons of a picture that it was labelled in.

    Args:
        case: The case.
        result: What was seen; None where prediction failed.
        frame: The labels.
        joints: The joints.
        judge: Normaliser and threshold.
        size: Height and width of the picture.
    """
    persons = judged_persons(frame)
    if not persons:
        raise CaseError(case.case_id, "nobody is labelled in it", hint="Leave the picture out.")
    errors = _errors(case, result, persons, size)  # (P, J)
    right = correct(errors, _sizes(persons, joints, judge), judge.threshold)
    failed = "failed: no prediction" if result is None else ""
    rows = []
    for place, joint in enumerate(joints.joints):
        for metric, values in (("pck", right[:, place]), ("pixel_error", errors[:, place])):
            known = values[~np.isnan(values)]
            note = failed if known.size else "not labelled"
            rows.append(MetricRow(case.case_id, joint, metric, float(known.mean()) if known.size else math.nan, note))
    return rows


def observe_frame(
    case: Case,
    result: FramePose,
    frame: LabelledFrame,
    joints: JointSet,
    judge: JudgeSettings,
    size: tuple[int, int],
) -> Observation:
    """Errors of all joints, the persons' sizes, and what was found and how sure; kept in the run's table."""
    persons = judged_persons(frame)
    errors = _errors(case, result, persons, size)
    return {
        "errors": _as_text(errors),
        "sizes": _as_text(_sizes(persons, joints, judge)),
        "points": _as_text(result.points),
        "scores": _as_text(result.scores),
    }


def judge_frames(
    cases: Sequence[Case],
    observed: Mapping[str, Observation],
    frames: Mapping[str, LabelledFrame],
    joints: JointSet,
    judge: JudgeSettings,
    diagonal: Callable[[Case], float],
) -> dict[tuple[str, str], float]:
    """Numbers of all joints alike; `(class, metric)` → number. `diagonal` tells the pixels of a picture's diagonal."""
    shares, errors = [], []
    for case in cases:
        if case.case_id in observed:
            error, size = observed_arrays(observed[case.case_id])
        else:
            persons = judged_persons(frames[case.case_id])
            error = np.where(np.stack([one.known for one in persons]), diagonal(case), np.nan)
            size = _sizes(persons, joints, judge)
        shares.append((error / size[:, None]).ravel())
        errors.append(error.ravel())
    share, error = np.concatenate(shares), np.concatenate(errors)
    share, error = share[~np.isnan(share)], error[~np.isnan(error)]
    if not error.size:
        return {}
    steps = np.linspace(0, judge.threshold, _STEPS)
    curve = np.searchsorted(np.sort(share), steps, side="right") / max(share.size, 1)
    return {
        ("mean", "pck_all"): float((share <= judge.threshold).mean()) if share.size else math.nan,
        ("mean", "pck_area"): float(np.trapezoid(curve, steps) / judge.threshold) if share.size else math.nan,
        ("mean", "median_error"): float(np.median(error)),
        ("mean", "mean_error"): float(error.mean()),
    } | _precision(cases, observed, frames, joints)


def _precision(
    cases: Sequence[Case],
    observed: Mapping[str, Observation],
    frames: Mapping[str, LabelledFrame],
    joints: JointSet,
) -> dict[tuple[str, str], float]:
    """COCO's numbers, where the joints have sigmas and every person that counts has an area."""
    persons = [one for case in cases for one in judged_persons(frames[case.case_id])]
    if not joints.sigmas or not all(one.area > 0 for one in persons):
        return {}
    pictures = []
    for case in cases:
        seen = observed.get(case.case_id)
        told = (str(seen["points"]), str(seen["scores"])) if seen else ("[]", "[]")
        pictures.append(_matched(frames[case.case_id], *told, joints.sigmas))
    got = average_precision(pictures)
    names = {"oks_ap": "AP", "oks_ap50": "AP50", "oks_ap75": "AP75", "oks_ar": "AR"}
    return {("mean", ours): got[theirs] for ours, theirs in names.items()}


@lru_cache(maxsize=2**16)
def _matched(frame: LabelledFrame, points: str, scores: str, sigmas: tuple[float, ...]) -> MatchedPicture:
    """A picture's matches do not depend on others, so resamples of the groups share them."""
    truths = [
        TruePerson(one.points, one.known, one.box or (0.0, 0.0, 0.0, 0.0), one.area, crowd=one.ignored)
        for one in frame.persons
    ]
    found = [
        FoundPerson(np.array(one, np.float64), float(np.mean(score)))
        for one, score in zip(json.loads(points), json.loads(scores), strict=True)
    ]
    return match_picture(truths, found, sigmas)


def observed_arrays(seen: Observation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Errors `(P, J)` in pixels and sizes `(P,)` of what was observed of one picture."""
    return _from_text(str(seen["errors"])), _from_text(str(seen["sizes"]))


def _errors(
    case: Case, result: FramePose | None, persons: Sequence[LabelledPerson], size: tuple[int, int]
) -> NDArray[np.float64]:
    truth, known = np.stack([one.points for one in persons]), np.stack([one.known for one in persons])
    if result is None:
        return np.where(known, math.hypot(*size), np.nan)
    if len(result.points) != len(persons):
        raise CaseError(case.case_id, f"{len(result.points)} poses for {len(persons)} labelled persons")
    return np.minimum(pixel_errors(result.points, truth, known), math.hypot(*size))


def _sizes(persons: Sequence[LabelledPerson], joints: JointSet, judge: JudgeSettings) -> NDArray[np.float64]:
    return normaliser_sizes(
        judge.normaliser,
        joints,
        np.stack([one.points for one in persons]),
        np.stack([one.known for one in persons]),
        boxes=[one.own_box for one in persons],
        heads=[one.head for one in persons],
    )


def _as_text(values: NDArray[np.floating]) -> str:
    """Arrays are not kept in the run's table; text is."""
    rounded = np.round(values.astype(np.float64), 4)
    kept: NDArray[np.object_] = rounded.astype(object)
    kept[np.isnan(rounded)] = None
    return json.dumps(kept.tolist())


@lru_cache(maxsize=2**16)
def _from_text(text: str) -> NDArray[np.float64]:
    """Resamples of the groups ask for the same arrays thousands of times."""
    values = np.array(json.loads(text), dtype=np.float64)
    values.flags.writeable = False
    return values
