"""How often single clips of a video are right, beside the video as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from domains.video.action.judging import judge_clips, observe_clip
from pipelines.cases import Case

CLASSES = ("calm", "fight", "flight")


@dataclass
class Told:
    probabilities: NDArray[np.float64]


def case(name: str, action: str) -> Case:
    return Case(name, name, {}, {"action": action})


def test_clips_and_videos_are_counted_apart() -> None:
    cases = [case("a", "calm"), case("b", "fight"), case("c", "fight")]
    parts = np.array([[0.9, 0.1, 0.0], [0.4, 0.6, 0.0], [0.6, 0.4, 0.0], [0.7, 0.3, 0.0]])
    observed = {"a": observe_clip(cases[0], Told(parts.mean(0)), CLASSES, parts=parts)}
    wrong = np.array([[0.8, 0.2, 0.0], [0.3, 0.7, 0.0]])
    observed["b"] = observe_clip(cases[1], Told(wrong.mean(0)), CLASSES, parts=wrong)
    told = judge_clips(cases, observed, CLASSES)  # the third one failed: all of its clips are wrong
    assert told["mean", "accuracy"] == pytest.approx(1 / 3)
    assert told["mean", "clip_accuracy"] == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert told["calm", "class_accuracy"] == 1
    assert np.isnan(told["flight", "class_accuracy"])
    assert told["mean", "class_accuracy"] == pytest.approx(0.5)  # the absent class is in no mean


def test_without_clips_there_is_no_share_of_them() -> None:
    cases = [case("a", "calm")]
    observed = {"a": observe_clip(cases[0], Told(np.array([0.9, 0.1, 0.0])), CLASSES)}
    assert ("mean", "clip_accuracy") not in judge_clips(cases, observed, CLASSES)
