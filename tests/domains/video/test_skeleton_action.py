"""Actions from skeletons: clips, network, judging, the task from cases to a served model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from domains.video.action.judging import judge_clip, judge_clips
from domains.video.skeleton_action.augment import flip, normalise, resample, rotate_and_scale, window
from domains.video.skeleton_action.clips import select_persons
from domains.video.skeleton_action.network import SkeletonTransformer
from domains.video.skeleton_action.predictor import ActionPrediction, stretch
from domains.video.skeleton_action.settings import SkeletonWorkflow
from domains.video.skeleton_action.streams import STREAMS, stack_streams, stream_channels
from domains.video.skeleton_action.task import SkeletonActionTask
from domains.video.skeletons.joints import JointSet, JointSetMismatch, joint_set
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, save_skeletons
from pipelines.cases import Case
from pipelines.errors import CaseError, ConfigurationError, DataError
from pipelines.task import SampleKey
from shared_attention import build

JOINTS = JointSet(
    "stick",
    ("middle", "left_hand", "right_hand", "head"),
    (("left_hand", "right_hand"),),
    (("middle", "head"), ("middle", "left_hand"), ("middle", "right_hand")),
    ("middle",),
)


def stick(action: str, frames: int, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """`(1, T, 4, 2)`: the left hand goes up (`up`) or down, at a random place and size."""
    pose = np.zeros((1, frames, 4, 2), np.float32)
    pose[0, :, 1:] = [(-1, 0), (1, 0), (0, -1.5)]
    pose[0, :, 1, 1] = np.linspace(0.5, -0.5, frames) * (1 if action == "up" else -1)
    return (pose * rng.uniform(1, 50) + rng.normal(0, 100, 2)).astype(np.float32)


@pytest.fixture
def skeletons(tmp_path: Path) -> Path:
    """Sixteen clips of two actions."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(16):
        action = ("down", "up")[number % 2]
        pose = stick(action, 9 + number % 5, rng)
        made.append(SkeletonSequence(f"c{number:02d}", pose, np.ones(pose.shape[:3], np.float32), action))
    save_skeletons(SkeletonSet(JOINTS, tuple(made), ("down", "up")), tmp_path / "sticks.npz")
    return tmp_path / "sticks.npz"


def workflow(file: Path, **sections: Any) -> SkeletonWorkflow:
    model = {"dim": 16, "depth": 1, "dropout": 0.0} | sections.pop("model", {})
    return SkeletonWorkflow(
        task="video/skeleton-action",
        name="sticks",
        data={"file": file},  # type: ignore[arg-type]
        clip={"frames": 8},  # type: ignore[arg-type]
        model=model,  # type: ignore[arg-type]
        **sections,
    )


def fitted(file: Path, **sections: Any) -> tuple[SkeletonActionTask, tuple[Case, ...]]:
    task = SkeletonActionTask(workflow(file, **sections))
    cases = task.read_cases().cases
    task.fit(cases)
    return task, cases


def test_place_and_size_do_not_matter_and_unseen_joints_are_zero() -> None:
    rng = np.random.default_rng(0)
    pose, seen = rng.normal(size=(1, 6, 4, 2)).astype(np.float32), np.ones((1, 6, 4), np.float32)
    seen[0, 2, 3] = 0
    first = normalise(pose, seen, [0])
    np.testing.assert_allclose(normalise(pose * 7 - 30, seen, [0]), first, atol=1e-5)
    assert (first[0, 2, 3] == 0).all()
    np.testing.assert_allclose(first[0, :, 0].mean(0), 0, atol=1e-6)
    changed = pose.copy()
    changed[0, 2, 3] = 1e6
    np.testing.assert_array_equal(normalise(changed, seen, [0]), first)
    assert not normalise(pose, np.zeros_like(seen), [0]).any()


def test_resampling_keeps_ends_and_straight_lines() -> None:
    line = np.broadcast_to(np.arange(5, dtype=np.float32)[None, :, None, None], (1, 5, 2, 2))
    seen = np.ones((1, 5, 2), np.float32)
    seen[0, 1, 0] = 0
    longer, there = resample(line, seen, 9)
    np.testing.assert_allclose(longer[0, :, 0, 0], np.linspace(0, 4, 9))
    assert there[0, :, 0].tolist() == [1, 0, 0, 0, 1, 1, 1, 1, 1]
    piece, _ = resample(line, seen, 3, start=1.0, stop=3.0)
    assert piece[0, :, 0, 0].tolist() == [1, 2, 3]
    one, _ = resample(line[:, :1], seen[:, :1], 4)
    assert one.shape == (1, 4, 2, 2)
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, stop = window(5, 0.5, rng)
        assert 0 <= start <= stop <= 4
        assert stop - start >= 2


def test_a_flip_is_its_own_inverse_and_swaps_hands() -> None:
    rng = np.random.default_rng(0)
    pose, seen = rng.normal(size=(1, 3, 4, 2)).astype(np.float32), rng.integers(0, 2, (1, 3, 4)).astype(np.float32)
    once = flip(pose, seen, JOINTS.mirror)
    np.testing.assert_array_equal(once[0][0, :, 1], pose[0, :, 2] * [-1, 1])
    twice = flip(*once, JOINTS.mirror)
    np.testing.assert_array_equal(twice[0], pose)
    np.testing.assert_array_equal(twice[1], seen)


@pytest.mark.parametrize("axes", [2, 3])
def test_a_turn_alone_keeps_lengths(axes: int) -> None:
    pose = np.random.default_rng(0).normal(size=(2, 3, 4, axes)).astype(np.float32)
    turned = rotate_and_scale(pose, degrees=90, scale=(1, 1), shear=0, rng=np.random.default_rng(1))
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(pose, axis=-1), rtol=1e-5)
    assert not np.allclose(turned, pose, atol=1e-3)
    if axes == 3:
        np.testing.assert_allclose(turned[..., 1], pose[..., 1], rtol=1e-6)


def test_streams_are_the_obvious_loops() -> None:
    rng = torch.Generator().manual_seed(0)
    x, seen = torch.randn(1, 5, 4, 2, generator=rng), torch.ones(1, 5, 4)
    seen[0, 2, 1] = 0
    got = stack_streams(x, seen, streams=STREAMS, parents=JOINTS.parents)
    assert got.shape[-1] == stream_channels(STREAMS, joints=4, axes=2) == 3 + 2 + 4 + 4
    for t in range(5):
        for j in range(4):
            own = bool(seen[0, t, j])
            parent = JOINTS.parents[j]
            where = x[0, t, j] if own else torch.zeros(2)
            bone = x[0, t, j] - x[0, t, parent] if own and seen[0, t, parent] else torch.zeros(2)
            moves = [
                x[0, t + s, j] - x[0, t, j] if t + s < 5 and own and seen[0, t + s, j] else torch.zeros(2)
                for s in (1, 2)
            ]
            gaps = [float((x[0, t, j] - x[0, t, k]).norm()) if own and seen[0, t, k] else 0.0 for k in range(4)]
            wanted = torch.cat([where, seen[0, t, j, None], bone, *moves, torch.tensor(gaps)])
            torch.testing.assert_close(got[0, t, j], wanted, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("mixer", ["full", "linear", "window", "criss_cross"])
def test_any_two_axis_mixer_serves_and_all_parameters_learn(mixer: str) -> None:
    torch.manual_seed(0)
    network = SkeletonTransformer(
        4, 3, axes=2, parents=JOINTS.parents, mixer=lambda dim: build(mixer, dim, rank=2), dim=16, depth=2
    )
    output = network(torch.randn(2, 2, 8, 4, 2), torch.ones(2, 2, 8, 4))
    assert output.logits.shape == (2, 3)
    assert output.importance.shape == (2, 2, 2, 4)
    torch.testing.assert_close(output.importance.sum((2, 3)), torch.ones(2, 2))
    output.logits.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())


def test_late_fusion_averages_networks_that_learn_alone(skeletons: Path) -> None:
    streams = ["joint", "bone", "motion"]
    model = {"streams": streams, "fusion": "late", "dim": 16, "depth": 1, "dropout": 0.0}
    task, cases = fitted(skeletons, model=model)
    network = task.build_network()
    data = task.training_data(cases, seed=0)
    batch = data.collate([data[SampleKey(0, index)] for index in range(4)])
    task.loss_step(network, batch)["loss"].backward()
    assert [one.streams for one in network.networks] == [(name,) for name in streams]
    alone = [{**model, "streams": [name], "fusion": "early"} for name in streams]
    told = []
    for one, settings in zip(network.networks, alone, strict=True):
        single, _ = fitted(skeletons, model=settings)
        twin = single.build_network()
        assert torch.equal(twin.mean, one.mean)
        assert torch.equal(twin.deviation, one.deviation)
        twin.load_state_dict(one.state_dict())
        single.loss_step(twin, batch)["loss"].backward()
        for mine, theirs in zip(one.parameters(), twin.parameters(), strict=True):
            assert torch.allclose(mine.grad, theirs.grad, atol=1e-6)
        twin.load_state_dict(one.state_dict())
        told.append(twin.eval()(batch["coordinates"], batch["seen"]).logits.softmax(-1))
    fused = network.eval()(batch["coordinates"], batch["seen"])
    assert torch.allclose(fused.logits.softmax(-1), torch.stack(told).mean(0), atol=1e-5)
    assert torch.allclose(fused.importance.sum((1, 2, 3)), torch.ones(4), atol=1e-4)
    again = SkeletonActionTask.from_description(task.describe()).build_network()
    again.load_state_dict(network.state_dict())


def test_a_person_who_is_not_there_changes_nothing() -> None:
    torch.manual_seed(0)
    network = SkeletonTransformer(
        4, 3, axes=2, parents=JOINTS.parents, mixer=lambda dim: build("full", dim, rank=2), dim=16, depth=1
    ).eval()
    pose, seen = torch.randn(1, 1, 8, 4, 2), torch.ones(1, 1, 8, 4)
    alone = network(pose, seen)
    beside = network(torch.cat([pose, torch.zeros_like(pose)], 1), torch.cat([seen, torch.zeros_like(seen)], 1))
    torch.testing.assert_close(beside.logits, alone.logits)
    assert not beside.importance[0, 1].any()
    with pytest.raises(ValueError, match="allowed are"):
        network(pose[..., :3, :], seen)


def test_the_persons_seen_most_are_chosen() -> None:
    confidence = np.zeros((3, 2, 4), np.float32)
    confidence[1], confidence[2, 0] = 1, 1
    pose = np.arange(3, dtype=np.float32)[:, None, None, None] * np.ones((3, 2, 4, 2), np.float32)
    coordinates, _ = select_persons(SkeletonSequence("a", pose, confidence), 2)
    assert coordinates[:, 0, 0, 0].tolist() == [1, 2]
    assert select_persons(SkeletonSequence("a", pose, confidence), 4)[0].shape[0] == 4
    with pytest.raises(CaseError, match="no joint was seen"):
        select_persons(SkeletonSequence("a", pose, np.zeros_like(confidence)), 1)


def test_samples_are_functions_of_seed_epoch_and_index(skeletons: Path) -> None:
    task, cases = fitted(skeletons)
    a, b, other = (task.training_data(cases, seed=seed) for seed in (0, 0, 1))
    b[SampleKey(3, 1)]  # what was asked for before does not matter
    key = SampleKey(1, 5)
    np.testing.assert_array_equal(a[key]["coordinates"], b[key]["coordinates"])
    for changed in (other[key], a[SampleKey(2, 5)]):
        assert not np.array_equal(a[key]["coordinates"], changed["coordinates"])
    batch = a.collate([a[SampleKey(0, n)] for n in range(3)])
    example = task.example_batch(3)
    assert {k: v.shape for k, v in batch.items() if k != "case_id"} == {
        k: v.shape for k, v in example.items() if k != "case_id"
    }


def test_it_learns_and_serves_what_it_learned(skeletons: Path, tmp_path: Path) -> None:
    task, cases = fitted(skeletons, augment={"rotation": 5.0, "shortest": 0.9})
    torch.manual_seed(0)
    network = task.build_network()
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    data = task.training_data(cases, seed=0)
    for epoch in range(40):
        batch = data.collate([data[SampleKey(epoch, n)] for n in range(len(data))])
        loss = task.loss_step(network, batch)["loss"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    served = SkeletonActionTask.from_description(task.describe())
    twin = served.build_network()
    twin.load_state_dict(network.state_dict())
    predictor = served.predictor(twin, device=torch.device("cpu"))
    items = predictor.discover([skeletons])
    assert [item.item_id for item in items] == [case.case_id for case in cases]
    observed = {}
    for case, item in zip(cases, items, strict=True):
        result = predictor.infer(predictor.read(item))
        observed[case.case_id] = task.observe(case, result)
    assert task.pooled(cases, observed)["mean", "accuracy"] == 1.0
    written = predictor.write(items[0], result, tmp_path / "out")
    assert [path.name for path in written.files] == ["c00.json", "c00.importance.csv"]
    (importance,) = task.draw(cases[-1], result)
    assert importance.data is not None
    assert importance.data.shape == (result.importance.shape[1], 5)
    (confusion,) = task.draw_set(cases, observed)
    assert confusion.data is not None
    assert confusion.data[["down", "up"]].to_numpy().tolist() == [[8, 0], [0, 8]]


def test_a_model_meets_other_joints_and_actions_with_a_named_error(skeletons: Path, tmp_path: Path) -> None:
    task, _ = fitted(skeletons)
    pose = np.ones((1, 9, 17, 2), np.float32)
    other = SkeletonSequence("a", pose, np.ones((1, 9, 17), np.float32), "up")
    save_skeletons(SkeletonSet(joint_set("coco17"), (other,)), tmp_path / "coco.npz")
    with pytest.raises(JointSetMismatch, match="coco17 where stick is needed"):
        task.with_workflow(workflow(tmp_path / "coco.npz")).read_cases()
    predictor = task.predictor(task.build_network(), device=torch.device("cpu"))
    (item, missing) = predictor.discover([tmp_path / "coco.npz", tmp_path / "none.npz"])
    with pytest.raises(CaseError, match="coco17 where stick is needed"):
        predictor.read(item)
    with pytest.raises(CaseError, match="no such file"):
        predictor.read(missing)
    jump = SkeletonSequence("a", pose[:, :, :4], np.ones((1, 9, 4), np.float32), "jump")
    save_skeletons(SkeletonSet(JOINTS, (jump,)), tmp_path / "jump.npz")
    with pytest.raises(ConfigurationError, match="does not know jump"):
        task.with_workflow(workflow(tmp_path / "jump.npz")).read_cases()
    with pytest.raises(ConfigurationError, match="model"):
        fitted(skeletons, model={"mixer": {"name": "full", "heads": 5}})[0].build_network()


def test_a_class_without_training_clips_and_clips_of_one_name_are_refused(skeletons: Path, tmp_path: Path) -> None:
    task = SkeletonActionTask(workflow(skeletons))
    cases = task.read_cases().cases
    with pytest.raises(DataError, match="the training part shows no up"):
        task.fit([case for case in cases if case.labels["action"] == "down"])
    pose = np.ones((1, 9, 4, 2), np.float32)
    twice = [SkeletonSequence(name, pose, pose[..., 0], name[:1]) for name in ("a/b", "a-b", "c")]
    save_skeletons(SkeletonSet(JOINTS, tuple(twice)), tmp_path / "twice.npz")
    with pytest.raises(DataError, match="identifiers stand more than once: a-b"):
        SkeletonActionTask(workflow(tmp_path / "twice.npz")).read_cases()


def test_classes_that_are_absent_are_in_no_mean_and_failures_are_wrong() -> None:
    classes = ("a", "b", "c")
    cases = [Case(f"{n}", f"{n}", {}, {"action": name}) for n, name in enumerate("aaab")]
    observed = {
        "0": {"truth": "a", "predicted": "a", "rank": 1, "probability/a": 0.8},
        "1": {"truth": "a", "predicted": "c", "rank": 2, "probability/a": 0.2},
        "3": {"truth": "b", "predicted": "b", "rank": 1, "probability/b": 0.5},
    }
    numbers = judge_clips(cases, observed, classes)
    assert numbers["mean", "accuracy"] == pytest.approx(2 / 4)
    assert numbers["a", "class_accuracy"] == pytest.approx(1 / 3)
    assert math.isnan(numbers["c", "class_accuracy"])
    assert numbers["mean", "class_accuracy"] == pytest.approx((1 / 3 + 1) / 2)
    assert numbers["mean", "likelihood"] == pytest.approx((0.8 * 0.2 * 1e-6 * 0.5) ** 0.25)
    assert {row.value for row in judge_clip(cases[0], None, classes)} == {0.0}
    tie = ActionPrediction(
        np.array([0.4, 0.4, 0.2]), np.zeros((1, 2, 3), np.float32), np.zeros((1, 2, 3, 2), np.float32)
    )
    rows = {row.metric: row.value for row in judge_clip(cases[3], tie, classes)}
    assert rows == {"correct": 0.0, "probability": pytest.approx(0.4)}  # of three, all are among the first five
    assert ("mean", "accuracy_top5") not in numbers
    many = tuple("abcdefg")
    sixth = ActionPrediction(np.array([1, 6, 5, 4, 3, 2, 0.5]) / 21.5, tie.importance, tie.pose)
    rows = {row.metric: row.value for row in judge_clip(cases[0], sixth, many)}
    assert rows["correct_top5"] == 0
    assert {row.metric for row in judge_clip(cases[0], None, many)} == set(rows)
    assert judge_clips(cases[:1], {"0": observed["0"] | {"rank": 6}}, many)["mean", "accuracy_top5"] == 0
    with pytest.raises(CaseError, match="its action is 'z'"):
        judge_clip(Case("x", "x", {}, {"action": "z"}), None, classes)


def test_importance_keeps_its_sum_over_the_frames_of_the_source() -> None:
    importance = np.random.default_rng(0).random((2, 3, 4)).astype(np.float32)
    importance[1] = 0
    spread = stretch(importance, 10)
    np.testing.assert_allclose(spread.sum((1, 2)), importance.sum((1, 2)), rtol=1e-5)
    assert spread[0, 0].argmax() == importance[0, 0].argmax()
