"""The task: reads, learns, judges, describes itself, and serves from the description."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domains.video.pose.estimating import FramePose
from domains.video.pose.judging import judge_frame, judge_frames, observe_frame
from domains.video.pose.labels import LabelledFrame, LabelledPerson
from domains.video.pose.predictor import PoseResult
from domains.video.pose.samples import PoseSamples
from domains.video.pose.settings import InputSettings, JudgeSettings, PoseWorkflow
from domains.video.pose.task import PoseTask
from domains.video.skeletons.joints import JointSet
from pipelines.cases import Case
from pipelines.errors import CaseError, ConfigurationError, DataError
from pipelines.task import SampleKey

MODEL = {"weights": "none", "stages": 5, "dim": 16, "depth": 1, "heads": 2, "tokens": "looking"}


def workflow(file: Path, format_: str = "deeplabcut", **sections: Any) -> PoseWorkflow:
    data = {"format": format_, "file": file, **sections.pop("data", {})}
    given = {"size": (64, 64), "boxes": "whole", "looks": 2, **sections.pop("input", {})}
    judge = {"normaliser": "pixels", "threshold": 5, **sections.pop("judge", {})}
    model = {**MODEL, **sections.pop("model", {})}
    return PoseWorkflow(task="video/pose", name="t", data=data, input=given, judge=judge, model=model, **sections)


def fitted(file: Path, **sections: Any) -> tuple[PoseTask, tuple[Case, ...]]:
    task = PoseTask(workflow(file, data={"group": "picture", "last": {"test": 0.2, "validation": 0.2}}, **sections))
    table = task.read_cases()
    for case in table:
        task.check_case(case)
    task.fit(table.part("train"))
    return task, tuple(table)


@pytest.mark.parametrize("tokens", ["pooled", "looking"])
def test_where_tokens_look_is_learned_beside_the_likelihood(mouse, tokens):
    found = {}
    for weight in (0.0, 2.0):
        task, cases = fitted(mouse, model={"tokens": tokens}, loss={"looking": weight})
        torch.manual_seed(0)
        network = task.build_network().train()
        data = task.training_data([case for case in cases if case.split == "train"], seed=0)
        torch.manual_seed(0)
        parts = task.loss_step(network, data.collate([data[SampleKey(0, at)] for at in range(2)]))
        found[weight] = {name: float(value.detach()) for name, value in parts.items()}
    assert set(found[0.0]) == {"loss"}
    if tokens == "pooled":
        assert set(found[2.0]) == {"loss"}
    else:
        parts = found[2.0]
        assert parts["looking"] > 0
        assert parts["loss"] == pytest.approx(parts["likelihood"] + 2 * parts["looking"], rel=1e-6)
        assert parts["likelihood"] == pytest.approx(found[0.0]["loss"], rel=1e-5)


@pytest.mark.parametrize("head", ["dsta", "plain"])
def test_it_learns_serves_and_is_served_from_its_description(mouse, head):
    task, cases = fitted(mouse, model={"head": head}, input={"frames": 3})
    torch.manual_seed(0)
    network = task.build_network()
    data = task.training_data([case for case in cases if case.split == "train"], seed=0)
    batch = data.collate([data[SampleKey(0, at)] for at in range(4)])
    assert batch["frames"].shape == (4, 3, 3, 64, 64)
    example = task.example_batch(4)
    assert {name: value.shape for name, value in example.items() if name != "case_id"} == {
        name: value.shape for name, value in batch.items() if name != "case_id"
    }
    loss = task.loss_step(network.train(), batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss.detach())
    predictor = task.predictor(network.eval(), device=torch.device("cpu"))
    result = predictor.infer(predictor.read(task.item(cases[-1])))
    assert isinstance(result, PoseResult)
    rows = task.judge(cases[-1], result)
    assert {(row.class_name, row.metric) for row in rows} == {
        (joint, metric) for joint in ("snout", "leftear", "rightear", "tailbase") for metric in ("pck", "pixel_error")
    }
    observed = {cases[-1].case_id: task.observe(cases[-1], result)}
    assert ("mean", "median_error") in task.pooled(cases[-1:], observed)
    assert [figure.name for figure in task.draw_set(cases, observed)] == ["pck", "joint-errors"]
    assert task.draw(cases[-1], result)[0].image.ndim == 3
    served = PoseTask.from_description(task.describe())
    assert str(mouse.parent) not in str(task.describe())
    again = served.build_network()
    again.load_state_dict(network.state_dict())
    other = served.with_workflow(task.config)
    other.read_cases()
    second = other.predictor(again.eval(), device=torch.device("cpu"))
    seen = second.infer(second.read(other.item(cases[-1]))).pose
    # Served networks have their norms merged into the convolutions.
    np.testing.assert_allclose(seen.points, result.pose.points, atol=0.01)


def test_samples_are_functions_of_seed_epoch_and_index(mouse):
    task, cases = fitted(mouse)
    data, same = (task.training_data(cases[:4], seed=3) for _ in range(2))
    one, again = data[SampleKey(2, 1)], same[SampleKey(2, 1)]
    np.testing.assert_array_equal(one["frames"], again["frames"])
    assert not np.array_equal(one["frames"], data[SampleKey(3, 1)]["frames"])
    # Frame 3 has no tail labelled: it weighs nothing, whatever was drawn.
    for epoch in range(5):
        sample = data[SampleKey(epoch, 3)]
        assert (sample["weight"][3] == 0).all()
        assert (sample["target"][sample["weight"] > 0] >= 0).all()
        assert (sample["target"] <= 1).all()


def test_targets_follow_the_dots(mouse):
    """The picture has a coloured dot at each joint; so has each changed sample at its target, with swapped ears."""
    task, cases = fitted(mouse)
    data = task.training_data(cases[:3], seed=0)
    colours = np.array([[250, 0, 0], [0, 250, 0], [0, 0, 250], [250, 250, 0]], float)
    mean, std = np.array([0.485, 0.456, 0.406]) * 255, np.array([0.229, 0.224, 0.225]) * 255
    right, seen = 0, 0
    for epoch in range(8):
        for index in range(3):
            sample = data[SampleKey(epoch, index)]
            picture = sample["frames"][0].transpose(1, 2, 0) * std + mean
            places = np.clip((sample["target"] * 64 - 0.5).round().astype(int), 0, 63)
            there = {}
            for joint in np.flatnonzero(sample["weight"][:, 0]):
                x, y = places[joint]
                there[joint] = int(np.abs(colours - picture[y, x]).sum(1).argmin())
            swapped = {1: 2, 2: 1}
            as_is = sum(colour == joint for joint, colour in there.items())
            mirrored = sum(colour == swapped.get(joint, joint) for joint, colour in there.items())
            right, seen = right + max(as_is, mirrored), seen + len(there)
    assert seen > 40
    assert right / seen > 0.9


def test_frames_of_another_part_are_not_shown_in_a_clip(mouse):
    task, cases = fitted(mouse, input={"frames": 3})
    clips = {case.case_id: task._clip(case.case_id) for case in cases}
    part_of = {case.paths["image"]: case.split for case in cases}
    assert all(part_of[path] == case.split for case in cases for path in clips[case.case_id])
    assert [path.stem for path in clips["img001"]] == ["img000", "img001", "img002"]
    drawn = PoseTask(workflow(mouse, data={"group": "picture"}, input={"frames": 3}))
    drawn.read_cases()
    assert len(set(drawn._clip("img001"))) == 1


def test_what_does_not_fit_is_named(mouse, crowd_json):
    with pytest.raises(ValueError, match=r"input\.looks: 2 looks again at whole pictures"):
        workflow(mouse, input={"boxes": "labels"})
    with pytest.raises(ConfigurationError, match="has no left_shoulder and right_hip"):
        PoseTask(workflow(mouse, judge={"normaliser": "torso"})).read_cases()
    with pytest.raises(ConfigurationError, match="heads"):
        fitted(mouse, model={"heads": 3})[0].build_network()
    with pytest.raises(DataError, match="cannot be read"):
        PoseTask(workflow(mouse.with_name("none.csv"))).read_cases()
    images = {"images": crowd_json.parent / "images"}
    crowd = PoseTask(workflow(crowd_json, "coco", data=images))
    table = crowd.read_cases()
    with pytest.raises(CaseError, match="3 persons in a picture that is looked at as a whole"):
        crowd.check_case(table[0])
    boxed = PoseTask(workflow(crowd_json, "coco", data=images, input={"boxes": "labels", "looks": 1}))
    table = boxed.read_cases()
    assert boxed.check_case(table[0])["persons"] == 2


def test_a_joint_that_is_labelled_nowhere_is_never_told(crowd_json, tmp_path, caplog):
    data = {"images": crowd_json.parent / "images"}
    task = PoseTask(workflow(crowd_json, "coco", data=data, input={"boxes": "labels", "looks": 1}))
    table = task.read_cases()
    task.fit(tuple(table))
    assert "no training picture has right_hip, left_knee" in caplog.text
    predictor = task.predictor(task.build_network(), device=torch.device("cpu"))
    result = predictor.infer(predictor.read(task.item(table[0])))
    assert isinstance(result, PoseResult)
    assert np.isfinite(result.pose.points[:, :12]).all()
    assert np.isnan(result.pose.points[:, 12:]).all()
    written = predictor.write(task.item(table[0]), result, tmp_path / "out")
    (persons,) = [json.loads(written.files[0].read_text())["persons"]]
    assert [len(one["keypoints"]) for one in persons] == [12, 12]
    assert 0 < written.summary["score"] <= 1
    observed = {table[0].case_id: task.observe(table[0], result)}
    numbers = task.pooled(table[:1], observed)
    assert np.isfinite(numbers["mean", "oks_ap"])
    assert task.draw(table[0], result)
    assert [figure.name for figure in task.draw_set(table[:1], observed)] == ["pck", "joint-errors"]


def test_boxes_of_labels_are_served_to_their_persons(crowd_json):
    data = {"images": crowd_json.parent / "images"}
    task = PoseTask(workflow(crowd_json, "coco", data=data, input={"boxes": "labels", "looks": 1}))
    table = task.read_cases()
    known = task._known(table[0].case_id)
    assert [found.box for found in known.boxes] == [(2, 4, 30, 50), (40, 6, 36, 48)]


TWO = JointSet("two", ("a", "b"))


def found(points: Any, boxes: int = 1) -> FramePose:
    array = np.array(points, np.float32)
    return FramePose(array, np.full(array.shape[:2], np.nan, np.float32), np.ones(array.shape[:2], np.float32), ())


def test_judging_by_hand():
    persons = (
        LabelledPerson(np.array([[0, 0], [10, 0]], np.float32), np.array([True, True]), (0, 0, 10, 20)),
        LabelledPerson(np.array([[5, 5], [0, 0]], np.float32), np.array([True, False]), (0, 0, 30, 4)),
        LabelledPerson(np.zeros((2, 2), np.float32), np.array([True, True]), ignored=True),
    )
    frame = LabelledFrame("x", Path("x"), persons, "x")
    case = Case("x", "x", {"image": Path("x")})
    judge = JudgeSettings(normaliser="box", threshold=0.2)
    pose = found([[[3, 4], [10, 4]], [[5, 12], [99, 99]]])
    rows = {(r.class_name, r.metric): r.value for r in judge_frame(case, pose, frame, TWO, judge, (60, 80))}
    # Sizes 20 and 30: 5/20 is wrong, 4/20 right, 7/30 wrong.
    assert rows == {("a", "pck"): 0, ("a", "pixel_error"): 6, ("b", "pck"): 1, ("b", "pixel_error"): 4}
    observed = {"x": observe_frame(case, pose, frame, TWO, judge, (60, 80))}
    whole = judge_frames([case], observed, {"x": frame}, TWO, judge, lambda _: 100.0)
    assert whole["mean", "pck_all"] == pytest.approx(1 / 3)
    assert whole["mean", "median_error"] == 5
    assert whole["mean", "mean_error"] == pytest.approx(16 / 3)
    failed = judge_frame(case, None, frame, TWO, judge, (60, 80))
    assert {row.value for row in failed} == {0.0, 100.0}
    lost = judge_frames([case], {}, {"x": frame}, TWO, judge, lambda _: 100.0)
    assert (lost["mean", "pck_all"], lost["mean", "median_error"]) == (0, 100)
    with pytest.raises(CaseError, match="1 poses for 2 labelled persons"):
        judge_frame(case, found([[[3, 4], [10, 4]]]), frame, TWO, judge, (60, 80))


def test_cocos_precision_where_areas_and_sigmas_are_known():
    joints = JointSet("two", ("a", "b"), sigmas=(0.1, 0.1))
    points = np.array([[0, 0], [10, 10]], np.float32)
    person = LabelledPerson(points, np.array([True, True]), (0, 0, 40, 40), 1600.0)
    frames = {name: LabelledFrame(name, Path(name), (person,), name) for name in "xy"}
    cases = [Case(name, name, {"image": Path(name)}) for name in "xy"]
    judge = JudgeSettings(normaliser="pixels", threshold=5)
    observed = {"x": observe_frame(cases[0], found([points]), frames["x"], joints, judge, (60, 80))}
    numbers = judge_frames(cases, observed, frames, joints, judge, lambda _: 100.0)
    assert numbers["mean", "oks_ap"] == pytest.approx(51 / 101)  # the other picture's person was not found
    assert numbers["mean", "oks_ar"] == 0.5
    bare = {name: LabelledFrame(name, Path(name), (LabelledPerson(points, person.known),), name) for name in "xy"}
    assert ("mean", "oks_ap") not in judge_frames(cases, observed, bare, joints, judge, lambda _: 100.0)


def test_a_clip_of_pictures_of_several_sizes_is_named(mouse):
    from PIL import Image

    task, cases = fitted(mouse, input={"frames": 3})
    Image.new("RGB", (30, 30)).save(mouse.parent / "img001.jpg")
    data = task.training_data(cases[:1], seed=0)
    assert isinstance(data, PoseSamples)
    with pytest.raises(CaseError, match="frames of its clip have 2 sizes"):
        data[SampleKey(0, 0)]
    assert InputSettings().frames == 1
