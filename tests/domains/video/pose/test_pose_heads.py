"""What is told in heads: PCKh and PoseTrack's precision, by hand and through the task."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from domains.video.pose.estimating import FramePose
from domains.video.pose.heads import judge_heads, told_in_heads
from domains.video.pose.judging import judge_frames, observe_frame
from domains.video.pose.labels import LabelledFrame, LabelledPerson
from domains.video.pose.predictor import PoseResult
from domains.video.pose.settings import JudgeSettings, PoseWorkflow
from domains.video.pose.task import PoseTask
from domains.video.skeletons.joints import JointSet, joint_set
from pipelines.cases import Case

TWO = JointSet("two", ("a", "b"))
PIXELS = JudgeSettings(normaliser="pixels", threshold=5)


def person(points: Any, known: Any = (True, True), **more: Any) -> LabelledPerson:
    return LabelledPerson(np.array(points, np.float32), np.array(known), **more)


def pose(points: Any, scores: Any) -> FramePose:
    array = np.array(points, np.float32)
    return FramePose(array, np.full(array.shape[:2], np.nan, np.float32), np.array(scores, np.float32), ())


def pictures(*persons: tuple[LabelledPerson, ...]) -> tuple[list[Case], dict[str, LabelledFrame]]:
    names = [f"p{at}" for at in range(len(persons))]
    cases = [Case(name, name, {"image": Path(name)}) for name in names]
    return cases, {name: LabelledFrame(name, Path(name), seen, name) for name, seen in zip(names, persons, strict=True)}


def test_heads_by_hand():
    cases, frames = pictures(
        (
            person([[0, 0], [100, 0]], head=10.0),
            person([[0, 200], [100, 200]], (True, False), head=20.0),
            person([[5, 5], [6, 6]], ignored=True, head=10.0),
        ),
        (person([[50, 50], [70, 50]], head=10.0),),
    )
    seen = pose(
        [[[0, 5], [100, 5.1]], [[0, 209], [300, 300]]],  # right and just wrong; right within 10, and nothing labelled
        [[0.9, 0.8], [0.7, 0.95]],
    )
    observed = {"p0": observe_frame(cases[0], seen, frames["p0"], TWO, PIXELS, (400, 400))}
    numbers = judge_heads(cases, observed, frames, TWO)
    # The second picture has no prediction: both of its joints are wrong, and lower the recall.
    assert numbers["a", "pckh"] == pytest.approx(2 / 3)
    assert numbers["b", "pckh"] == 0
    assert numbers["a", "posetrack_ap"] == pytest.approx(2 / 3)
    assert numbers["b", "posetrack_ap"] == 0
    # What each joint's score says orders the joints: a wrong one that is surer comes first.
    wrong_first = pose([[[0, 5], [100, 0]], [[0, 211], [300, 300]]], [[0.6, 0.8], [0.7, 0.1]])
    observed["p0"] = observe_frame(cases[0], wrong_first, frames["p0"], TWO, PIXELS, (400, 400))
    numbers = judge_heads(cases, observed, frames, TWO)
    assert numbers["a", "posetrack_ap"] == pytest.approx(1 / 2 * 1 / 3)
    assert numbers["b", "posetrack_ap"] == pytest.approx(1 / 2)
    assert judge_heads(cases * 2, observed, frames, TWO) == pytest.approx(numbers)


def test_a_head_that_cannot_be_measured_takes_its_person_out():
    cases, frames = pictures((person([[0, 0], [100, 0]], head=10.0), person([[0, 200], [100, 200]])))
    seen = pose([[[0, 0], [100, 0]], [[300, 300], [300, 300]]], [[0.5, 0.5], [0.9, 0.9]])
    observed = {"p0": observe_frame(cases[0], seen, frames["p0"], TWO, PIXELS, (400, 400))}
    assert set(judge_heads(cases, observed, frames, TWO).values()) == {1.0}
    nobody, lost = pictures((person([[0, 0], [100, 0]]),))
    assert np.isnan(list(judge_heads(nobody, {}, lost, TWO).values())).all()


def test_which_sets_are_judged_in_heads():
    heads = JointSet("heads", ("head_top", "neck"))
    alone, together = (person([[0, 0], [0, 9]]),), (person([[0, 0], [0, 9]]),) * 2
    by_head = JudgeSettings(normaliser="head", threshold=0.5)
    told = [
        told_in_heads(pictures(who)[1].values(), joints, judge)
        for who, joints, judge in (
            (alone, heads, PIXELS),  # a picture of one person, and nobody asked
            (alone, heads, by_head),
            (together, heads, PIXELS),
            (together, TWO, PIXELS),  # no head to measure
            ((person([[0, 0], [0, 9]], head=3.0),), TWO, PIXELS),
        )
    ]
    assert told == [False, True, True, False, True]


def test_a_failed_picture_is_wrong_in_every_number():
    cases, frames = pictures((person([[0, 0], [100, 0]], head=10.0),))
    assert set(judge_heads(cases, {}, frames, TWO).values()) == {0.0}
    assert judge_frames(cases, {}, frames, TWO, PIXELS, lambda _: 100.0)["mean", "pck_all"] == 0


@pytest.fixture
def posetrack(tmp_path: Path) -> Path:
    """Two videos of two frames with two persons each, as PoseTrack18 writes them."""
    joints = joint_set("posetrack17").joints
    images, annotations = [], []
    rng = np.random.default_rng(0)
    for video in ("000001", "000002"):
        (tmp_path / "images" / video).mkdir(parents=True)
        for frame in (1, 2):
            key = int(f"1{video}{frame:04d}")
            name = f"images/{video}/{frame:06d}.jpg"
            Image.fromarray(rng.integers(0, 255, (60, 80, 3), np.uint8)).save(tmp_path / name)
            images.append({"id": key, "frame_id": key, "vid_id": video, "file_name": name, "is_labeled": True})
            for track in (0, 1):
                box = [2 + 38 * track, 4, 36, 52]
                points = np.array(box[:2]) + rng.uniform(0.1, 0.9, (17, 2)) * box[2:]
                known = np.array(["ear" not in joint for joint in joints])
                keypoints = np.column_stack([points * known[:, None], known]).ravel().tolist()
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": key,
                        "track_id": track,
                        "bbox": box,
                        "bbox_head": [box[0] + 10, 4, 12, 16],
                        "keypoints": keypoints,
                        "category_id": 1,
                        "scores": [],
                    }
                )
    path = tmp_path / "posetrack.json"
    categories = [{"id": 1, "name": "person", "keypoints": list(joints)}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return path


def test_the_task_tells_both_numbers_of_each_joint_and_groups_by_video(posetrack):
    workflow = PoseWorkflow.model_validate(
        {
            "task": "video/pose",
            "name": "t",
            "data": {"format": "coco", "file": posetrack},
            "judge": {"normaliser": "head", "threshold": 0.5},
        }
    )
    task = PoseTask(workflow)
    table = task.read_cases()
    assert {case.group for case in table} == {"000001", "000002"}
    task.fit(tuple(table))  # which never saw an ear
    observed = {}
    for case in table:
        frame = task._frame(case)
        points = np.stack([one.points for one in frame.persons])
        # Wrists of the first person are half a picture off, all else is where it was labelled.
        points[0, -8:-6] += 40
        sure = np.full(points.shape[:2], 0.5)
        result = PoseResult(pose(points, sure), np.zeros((60, 80, 3), np.uint8))
        observed[case.case_id] = task.observe(case, result)
    numbers = task.pooled(tuple(table), observed)
    joints = joint_set("posetrack17").joints
    off, ears = joints[-8:-6], [joint for joint in joints if "ear" in joint]
    for joint in joints:
        values = [numbers[joint, metric] for metric in ("pckh", "posetrack_ap")]
        if joint in ears:
            assert np.isnan(values).all()
        else:
            # Four of eight are right, each as sure as the wrong one before it.
            assert values[0] == (0.5 if joint in off else 1)
            assert values[1] == pytest.approx(0.25 if joint in off else 1)
    # With the head as normaliser and half of it as threshold, PCK over all joints is PCKh over all joints.
    counted = [numbers[joint, "pckh"] for joint in joints if joint not in ears]
    assert numbers["mean", "pck_all"] == pytest.approx(np.mean(counted))
