"""Serving: joints come back to the picture, all persons together, videos in blocks with their true neighbours."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from domains.video.decoding import open_video
from domains.video.pose.boxes import FileBoxes, FoundBox, boxes_beside
from domains.video.pose.crops import whole_box
from domains.video.pose.discovery import discover_pictures
from domains.video.pose.estimating import FrameClip, PoseEstimator
from domains.video.pose.network import PoseOutput
from domains.video.pose.predictor import PosePredictor
from domains.video.pose.samples import normalise, normalise_batch
from domains.video.pose.settings import InputSettings
from domains.video.pose.streaming import stream_poses
from domains.video.skeletons.joints import JointSet
from pipelines.errors import CaseError
from pipelines.inference.fingerprint import FileDigests, item_digest
from tests.domains.video.conftest import HEIGHT, WIDTH, number_of, write_video
from tests.domains.video.pose.conftest import dots

FOUR = JointSet("four", ("red", "green", "blue", "yellow"), (("green", "blue"),))
CPU = torch.device("cpu")


class Finder(nn.Module):
    """Finds dots by their colour, as a perfect network would; counts how often it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[int] = []
        self.swapped = False

    def forward(self, frames: torch.Tensor) -> PoseOutput:
        self.batches.append(len(frames))
        pictures = frames[:, frames.shape[1] // 2]  # (B, 3, H, W)
        colours = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]]) * 250
        wanted = torch.from_numpy(normalise([np.full((1, 1, 3), c.numpy(), np.uint8) for c in colours]))  # (4, 3, 1, 1)
        off = (pictures[:, None] - wanted[None]).square().sum(2)  # (B, 4, H, W)
        near = torch.exp(-off * 3)
        height, width = pictures.shape[2:]
        y, x = torch.meshgrid((torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij")
        total = near.sum((2, 3)).clamp(min=1e-9)
        found = torch.stack([(near * x).sum((2, 3)) / total, (near * y).sum((2, 3)) / total], -1)
        return PoseOutput(found, torch.full_like(found, 0.1))


@pytest.mark.parametrize("looks", [1, 2])
@pytest.mark.parametrize("mirror", [False, True])
def test_joints_come_back_to_the_picture(looks, mirror):
    points = np.array([[20.0, 30], [60, 20], [30, 50], [70, 44]])
    given = InputSettings(size=(96, 128), boxes="whole", looks=looks)
    # A mirrored left ear is a right one: the finder knows colours, so the joints must not be swapped for it.
    joints = JointSet("four", FOUR.joints) if mirror else FOUR
    finder = Finder()
    pose = PoseEstimator(finder, joints, given, device=CPU, mirror=mirror, spread=0.5)(
        [FrameClip([dots(points)], [FoundBox(whole_box(60, 80), whole=True)])]
    )[0]
    np.testing.assert_allclose(pose.points[0], points, atol=0.7)
    assert pose.scores[0] == pytest.approx(np.full(4, 0.9))
    assert len(finder.batches) == looks
    if looks == 1:
        assert pose.deviations[0] == pytest.approx(np.full(4, 0.5 * (0.1 * 128 + 0.1 * 96) / 2 / 1.6))


def test_the_mirrored_picture_is_mirrored_back():
    class Half(nn.Module):
        def forward(self, frames):
            brightest = frames.mean((1, 2)).flatten(1).argmax(1)
            x = (brightest % frames.shape[-1] + 0.5) / frames.shape[-1]
            place = torch.stack([x, torch.full_like(x, 0.5)], -1)
            # `green` is told right; `blue` is always told at the left edge.
            points = torch.stack([place, place, torch.zeros_like(place), place], 1)
            return PoseOutput(points, None)

    picture = np.zeros((40, 40, 3), np.uint8)
    picture[20, 9] = 255
    clip = FrameClip([picture], [FoundBox(whole_box(40, 40), 0.5, whole=True)])
    pose = PoseEstimator(Half(), FOUR, InputSettings(size=(40, 40)), device=CPU)([clip])[0]
    assert pose.points[0, 0, 0] == pytest.approx(9, abs=1e-4)
    # green: its own place, and the mirrored edge that was told of blue: (9 + 39.5) / 2
    assert pose.points[0, 1, 0] == pytest.approx((9 + 39.5) / 2, abs=1e-4)
    assert pose.points[0, 2, 0] == pytest.approx((-0.5 + 9) / 2, abs=1e-4)
    assert np.isnan(pose.deviations).all()
    assert (pose.scores == 0.5).all()


def test_all_persons_of_frames_go_together():
    points = np.array([[20.0, 30], [60, 20], [30, 50], [70, 44]])
    boxes = [FoundBox((10, 10, 68, 48)), FoundBox((0, 0, 80, 60)), FoundBox((5, 15, 75, 45))]
    finder = Finder()
    estimator = PoseEstimator(finder, FOUR, InputSettings(size=(96, 96)), device=CPU, mirror=False, batch=4)
    poses = estimator(
        [FrameClip([dots(points)], boxes), FrameClip([dots(points)], []), FrameClip([dots(points)], boxes)]
    )
    assert finder.batches == [4, 2]
    assert [len(one.points) for one in poses] == [3, 0, 3]
    for pose in (poses[0], poses[2]):
        for person in pose.points:
            np.testing.assert_allclose(person, points, atol=0.8)


class Reader(nn.Module):
    """Tells the number that each frame of a clip shows, in 256ths of the width."""

    def forward(self, frames):
        numbers = [[*(number_of(255 * (one > 0).numpy().transpose(1, 2, 0)) for one in clip), 0] for clip in frames]
        x = torch.tensor(numbers, dtype=torch.float64) / 256
        return PoseOutput(torch.stack([x, torch.zeros_like(x)], -1), torch.full((*x.shape, 2), 0.25))


def reading(frames: int, step: int = 1) -> tuple[PoseEstimator, JointSet]:
    joints = JointSet("frames", (*(f"at{offset}" for offset in range(frames)), "end"))
    given = InputSettings(size=(HEIGHT, WIDTH), frames=frames, step=step, boxes="whole")
    return PoseEstimator(Reader(), joints, given, device=CPU, batch=7), joints


@pytest.mark.parametrize(
    ("length", "frames", "step", "block"),
    [
        pytest.param(23, 3, 1, 4, id="blocks of four"),
        pytest.param(24, 5, 2, 8, id="five frames, two apart"),
        pytest.param(3, 7, 1, 16, id="shorter than a clip"),
        pytest.param(1, 3, 1, 4, id="one frame"),
        pytest.param(17, 3, 1, 16, id="one frame left over"),
        pytest.param(18, 1, 1, 5, id="no neighbours"),
    ],
)
def test_each_frame_of_a_video_is_seen_once_with_its_neighbours(tmp_path, length, frames, step, block):
    path = write_video(tmp_path / "numbers.mp4", range(length))
    estimator, _ = reading(frames, step)
    seen = []
    with open_video(path) as video:
        for part, poses in stream_poses(
            video,
            lambda picture, _: [FoundBox(whole_box(*picture.shape[:2]), whole=True)],
            estimator,
            step=step,
            block=block,
        ):
            assert len(part.images) == len(poses) <= block + frames // 2 * step
            seen += [
                (int(index), np.round((pose.points[0, :-1, 0] + 0.5) * 256 / WIDTH).astype(int).tolist())
                for index, pose in zip(part.indices, poses, strict=True)
            ]
    half = frames // 2
    wanted = [
        (at, [min(max(at + offset * step, 0), length - 1) for offset in range(-half, half + 1)]) for at in range(length)
    ]
    assert seen == wanted


def test_a_video_leaves_a_table_a_summary_and_an_overlay(tmp_path):
    path = write_video(tmp_path / "numbers.mp4", range(20))
    (tmp_path / "numbers.boxes.json").write_text(
        json.dumps({"0": [[0, 0, 40, 40]], "7": [[0, 0, 40, 40, 0.5], {"box": [9, 9, 30, 30], "track": "b"}]})
    )
    estimator, joints = reading(3)
    predictor = PosePredictor(estimator, block=6)
    (item,) = predictor.discover([path])
    written = predictor.write(item, predictor.infer(predictor.read(item)), tmp_path / "out")
    assert [file.name for file in written.files] == ["numbers.parquet", "numbers.json", "numbers.overlay.mp4"]
    table = pd.read_parquet(written.files[0])
    assert table[["frame", "person", "track"]].values.tolist() == [[0, 0, ""], [7, 0, ""], [7, 1, "b"]]
    assert table["score"].tolist() == pytest.approx([0.75, 0.375, 0.75])
    assert table["seconds"].tolist() == pytest.approx([0, 7 / 25, 7 / 25])
    assert set(table) >= {f"{joint}_{part}" for joint in joints.joints for part in ("x", "y", "score", "deviation")}
    assert json.loads(written.files[1].read_text())["frames"] == 20
    with open_video(written.files[2]) as overlay:
        assert overlay.info.frames == 20


def test_boxes_of_frames_that_are_not_there_are_named_and_nothing_is_left(tmp_path, monkeypatch):
    (tmp_path / "spool").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "spool"))
    estimator, _ = reading(1)
    predictor = PosePredictor(estimator, block=4)
    files = [write_video(tmp_path / "short.mp4", range(5)), tmp_path / "one.png"]
    Image.fromarray(dots(np.array([[20.0, 30]]))).save(files[1])
    for file in files:
        file.with_name(f"{file.stem}.boxes.json").write_text('{"0": [[0, 0, 40, 40]], "5": [[0, 0, 40, 40]]}')
        (item,) = predictor.discover([file])
        with pytest.raises(CaseError, match="has boxes of frame 5"):
            predictor.infer(predictor.read(item))
    assert not list((tmp_path / "spool").iterdir())


def test_a_joint_without_a_place_is_empty_in_tables_and_not_drawn(tmp_path):
    path = write_video(tmp_path / "numbers.mp4", range(3))
    given = InputSettings(size=(96, 128), boxes="whole")
    estimator = PoseEstimator(Finder(), FOUR, given, device=CPU, mirror=False, taught=(True, True, False, True))
    predictor = PosePredictor(estimator)
    (item,) = predictor.discover([path])
    written = predictor.write(item, predictor.infer(predictor.read(item)), tmp_path / "out")
    table = pd.read_parquet(written.files[0])
    assert table[["blue_x", "blue_y", "blue_deviation"]].isna().all(axis=None)
    assert (table["blue_score"] == 0).all()
    assert table[["red_x", "green_x", "yellow_x"]].notna().all(axis=None)
    assert table["score"].tolist() == pytest.approx([0.9] * 3)
    with open_video(written.files[2]) as overlay:
        assert overlay.info.frames == 3


def test_memory_holds_a_block_whatever_the_length(tmp_path, monkeypatch):
    import domains.video.pose.streaming as streaming

    held = []
    monkeypatch.setattr(
        streaming, "FrameClip", lambda pictures, boxes: held.append(id(pictures[0].base)) or FrameClip(pictures, boxes)
    )
    path = write_video(tmp_path / "long.mp4", range(200))
    estimator, _ = reading(3)
    most = 0
    with open_video(path) as video:
        for part, _ in stream_poses(video, lambda *_: [], estimator, step=1, block=8):
            most = max(most, part.images.base.shape[0] if part.images.base is not None else len(part.images))
    assert len(held) == 200
    assert most <= 10


def test_pictures_leave_joints_by_name(tmp_path):
    points = np.array([[20.0, 30], [60, 20], [30, 50], [70, 44]])
    for name in ("a/one.png", "b/one.png"):
        (tmp_path / name).parent.mkdir()
        Image.fromarray(dots(points)).save(tmp_path / name)
    given = InputSettings(size=(96, 128), boxes="whole")
    predictor = PosePredictor(PoseEstimator(Finder(), FOUR, given, device=CPU, mirror=False))
    items = predictor.discover([tmp_path])
    assert sorted(item.item_id for item in items) == ["a-one", "b-one"]
    written = predictor.write(items[0], predictor.infer(predictor.read(items[0])), tmp_path / "out")
    told = json.loads(written.files[0].read_text())
    assert told["joints"] == list(FOUR.joints)
    x, y, score = told["persons"][0]["keypoints"]["green"]
    assert (x, y) == pytest.approx((60, 20), abs=0.7)
    assert score == pytest.approx(0.9)
    (tmp_path / "bad.png").write_bytes(b"no picture")
    (bad,) = discover_pictures([tmp_path / "bad.png"])
    with pytest.raises(CaseError, match=r"bad\.png is no readable picture"):
        predictor.read(bad)
    (gone,) = predictor.discover([tmp_path / "gone.mp4"])
    assert gone.problem == "there is no such file"


def test_a_batch_of_bytes_becomes_what_training_sees():
    cuts = np.random.default_rng(0).integers(0, 256, (3, 2, 8, 6, 3), np.uint8)
    batch = normalise_batch(torch.from_numpy(cuts))
    np.testing.assert_array_equal(batch, np.stack([normalise(list(clip)) for clip in cuts]))
    assert batch.flatten(0, 1).is_contiguous(memory_format=torch.channels_last)  # nothing is copied for convolutions


def test_a_picture_depends_on_the_boxes_beside_it(tmp_path):
    Image.fromarray(dots(np.array([[20.0, 30]]))).save(tmp_path / "one.png")
    predictor = PosePredictor(PoseEstimator(Finder(), FOUR, InputSettings(size=(96, 128)), device=CPU, mirror=False))

    def state():
        (item,) = predictor.discover([tmp_path])
        return item_digest(item, FileDigests())

    digests = [state()]
    for boxes in ("[[1, 2, 30, 40]]", "[[1, 2, 30, 41]]"):
        (tmp_path / "one.boxes.json").write_text(boxes)
        digests.append(state())
    assert len(set(digests)) == 3


def test_boxes_that_are_none_are_named(tmp_path):
    path = tmp_path / "v.boxes.json"
    for text, message in (
        ("[", "cannot be read"),
        ('{"a": []}', "expected a list of boxes, or frame number"),
        ("[[1, 2, 3]]", r"frame 0: \[1, 2, 3\] is no box"),
        ("[[1, 2, 0, 4]]", "is empty or not finite"),
        ("[7]", "frame 0: 7 is no box"),
        ('{"3": 7}', "frame 3: expected a list of boxes"),
    ):
        path.write_text(text)
        with pytest.raises(CaseError, match=message):
            FileBoxes(path, "v")
    path.write_text('{"2": [[1, 1, 9, 9]], "3": [[-3, -3, 4, 4], [6, 0, 5, 5]]}')
    detector, picture = FileBoxes(path, "v"), np.zeros((4, 6, 3), np.uint8)
    assert [len(detector(picture, frame)) for frame in (0, 2)] == [0, 1]
    with pytest.raises(CaseError, match=r"frame 3: box \[6\.0, 0\.0, 5\.0, 5\.0\] lies outside of its 6 × 4 pixels"):
        detector(picture, 3)
    detector.require_frames(4)
    with pytest.raises(CaseError, match=r"v\.boxes\.json has boxes of frame 3; there are 3 frames, counted from 0"):
        detector.require_frames(3)
    path.unlink()
    assert boxes_beside(tmp_path / "v.mp4", "v")(np.zeros((4, 6, 3), np.uint8), 3)[0].whole
