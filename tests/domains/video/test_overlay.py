"""An overlay holds every frame at its own time, with joints, boxes and probabilities where they belong."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from numpy.typing import NDArray

from domains.video.decoding import open_video
from domains.video.overlay import OverlayWriter, Person, most_likely
from domains.video.overlay.encoder import VideoEncoder
from domains.video.overlay.timeline import Timeline
from domains.video.skeletons.joints import JointSet

LIMB = JointSet("limb", ("left_end", "middle", "right_end"), (("left_end", "right_end"),), (("left_end", "middle"),))
BLUE, WHITE, ORANGE = (64, 160, 255), (245, 245, 245), (255, 140, 40)
GREY = np.full((100, 400, 3), 90, np.uint8)


def near(image: NDArray[np.uint8], x: float, y: float, colour: tuple[int, int, int]) -> bool:
    """Whether the pixel has the colour, give or take what coding changes."""
    return bool(np.abs(image[round(y), round(x)].astype(int) - colour).max() < 70)


def written(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    with open_video(path, backend="pyav") as video:
        return video.read(range(video.info.frames)).images, video.info.times


def test_frames_keep_their_uneven_times_and_their_count(
    tmp_path: Path, make_video: Callable[..., Path], read_number: Callable[[Any], int]
) -> None:
    stamps = [0, 1, 2, 9, 10, 30]
    with open_video(make_video(tmp_path / "uneven.mp4", stamps=stamps)) as video:
        size = (video.info.height, video.info.width)
        with OverlayWriter(tmp_path / "seen.mp4", size) as overlay:
            for frame in video.stream():
                overlay.add(frame.image, frame.time)
        times = video.info.times
    assert overlay.frames == len(stamps)
    images, seen = written(tmp_path / "seen.mp4")
    assert seen == pytest.approx(times, abs=1e-4)
    assert seen == pytest.approx(np.array(stamps) / 25, abs=1e-4)
    assert [read_number(image) for image in images] == list(range(len(stamps)))
    assert images.shape[1:3] == (3 * size[0], 3 * size[1])  # enlarged, or nobody can read it


def test_a_rotated_recording_is_written_upright(tmp_path: Path, make_video: Callable[..., Path]) -> None:
    path = make_video(tmp_path / "turned.mp4", stamps=[0, 1, 2], rotation=90)
    with open_video(path) as video, OverlayWriter(tmp_path / "seen.mp4", (128, 48)) as overlay:
        source = video.read([1]).images[0]
        for frame in video.stream():
            overlay.add(frame.image, frame.time)
    images, _ = written(tmp_path / "seen.mp4")
    scale = overlay.scale
    shrunk = images[1][scale // 2 :: scale, scale // 2 :: scale].astype(int)
    assert np.abs(shrunk - source).mean() < 12


def test_joints_bones_and_boxes_lie_where_they_were_seen(tmp_path: Path) -> None:
    person = Person(np.array([[50, 20], [120, 50], [200, 80]]), box=(30, 10, 220, 95))
    with OverlayWriter(tmp_path / "seen.mp4", GREY.shape[:2], joints=LIMB) as overlay:
        overlay.add(GREY, 0.0, persons=[person])
        overlay.add(GREY, 0.1)
    (drawn, plain), _ = written(tmp_path / "seen.mp4")
    assert overlay.scale == 1
    assert near(drawn, 50, 20, BLUE)
    assert near(drawn, 120, 50, WHITE)
    assert near(drawn, 200, 80, ORANGE)
    assert near(drawn, 85, 35, BLUE)  # the bone; there is none from the middle to the right end
    assert near(drawn, 160, 65, (90, 90, 90))
    assert near(drawn, 30, 50, (80, 220, 120))
    assert np.abs(plain.astype(int) - 90).max() < 8
    assert (GREY == 90).all()


def test_what_is_not_seen_is_not_drawn_and_what_is_unsure_is_a_ring(tmp_path: Path) -> None:
    points = np.array([[50.0, 20.0], [np.nan, 50.0], [200.0, 80.0]])
    with OverlayWriter(tmp_path / "seen.mp4", GREY.shape[:2], joints=LIMB, sure=0.5) as overlay:
        overlay.add(GREY, 0.0, persons=[Person(points, np.array([0.0, 1.0, 0.4]))])
        overlay.add(GREY, 0.1, persons=[Person(points, np.array([1.0, 1.0, 0.6]))])
    (unsure, sure), _ = written(tmp_path / "seen.mp4")
    assert near(unsure, 50, 20, (90, 90, 90))
    assert near(sure, 50, 20, BLUE)
    changed = [int((np.abs(image[74:87, 194:207].astype(int) - 90).max(-1) > 40).sum()) for image in (unsure, sure)]
    assert 0 < changed[0] < changed[1]


def test_the_timeline_shows_each_class_and_the_moment() -> None:
    strip = Timeline(("walk", "run"), duration=10.0, width=500, text=14)
    strip.mark(0.0, 5.0, {"walk": 1.0, "run": 0.0})
    strip.mark(5.0, 10.0, {"walk": 0.0, "run": 0.5})
    early, late = strip.draw(2.0), strip.draw(8.0)
    assert early.shape == (strip.height, 500, 3)
    row = strip.height // 2
    quarter, three_quarters = 180, 450
    assert (early[4, quarter] == (90, 200, 120)).all()  # walk is certain: filled to the top, and leads
    assert (early[row + 4, quarter] == (40, 40, 46)).all()
    assert (early[4, three_quarters] == (40, 40, 46)).all()
    assert (early[strip.height - 4, three_quarters] == (90, 200, 120)).all()  # run leads with a half
    assert (early[row + 4, three_quarters] == (40, 40, 46)).all()
    first, second = (int(np.flatnonzero((one == 255).all((0, 2)))[0]) for one in (early, late))
    names = (first - 0.2 * 499) / 0.8
    assert 10 < names < 0.3 * 500
    assert second == pytest.approx(names + 0.8 * (499 - names), abs=2)


def test_probabilities_fill_the_strip_below_as_frames_come(tmp_path: Path) -> None:
    with OverlayWriter(tmp_path / "seen.mp4", GREY.shape[:2], classes=("walk",), duration=0.9) as overlay:
        for number in range(10):
            overlay.add(GREY, number / 10, probabilities={"walk": 1.0, "not shown": 0.0})
    images, _ = written(tmp_path / "seen.mp4")
    assert images.shape[1] > 100
    green = [int(((image[100:, :, 1] > 150) & (image[100:, :, 0] < 150)).sum()) for image in images]
    assert green == sorted(green)
    assert green[0] < green[4] / 3 < green[9] / 4
    assert most_likely(("a", "b", "c", "d"), np.array([[0.1, 0.5, 0.2, 0.2], [0.9, 0.0, 0.1, 0.0]]), 2) == ("a", "b")


@pytest.mark.parametrize("size", [(51, 361), (1, 1)], ids=["odd", "one pixel"])
def test_odd_sizes_are_made_even(tmp_path: Path, size: tuple[int, int]) -> None:
    with VideoEncoder(tmp_path / "odd.mp4", size) as video:
        video.add(np.full((*size, 3), 200, np.uint8), 0.0)
    images, _ = written(tmp_path / "odd.mp4")
    assert images.shape[1:3] == (size[0] + 1, size[1] + 1)
    assert np.abs(images.astype(int) - 200).max() < 10


@pytest.mark.parametrize(
    ("do", "told"),
    [
        pytest.param(lambda o: o.add(GREY[:50], 0.0), r"frame \(50, 400, 3\); the overlay takes", id="size"),
        pytest.param(lambda o: (o.add(GREY, 0.5), o.add(GREY, 0.5)), "after the frame before, 0.5 s", id="time"),
        pytest.param(lambda o: o.add(GREY, float("nan")), "time nan", id="no time"),
        pytest.param(lambda o: o.add(GREY, 0, persons=[Person(np.zeros((4, 2)))]), "limb takes", id="joints"),
        pytest.param(lambda o: o.add(GREY, 0, probabilities={"a": 0.1}), "no classes", id="timeline"),
        pytest.param(lambda o: None, "no frame", id="nothing"),
    ],
)
def test_what_does_not_fit_is_told_and_leaves_no_file(tmp_path: Path, do: Callable[[Any], Any], told: str) -> None:
    path = tmp_path / "seen.mp4"
    with pytest.raises(ValueError, match=told), OverlayWriter(path, GREY.shape[:2], joints=LIMB) as overlay:
        do(overlay)
    assert not path.exists()


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (240, 480, 3), np.uint8)
    with OverlayWriter(
        tmp_path / "long.mp4", image.shape[:2], joints=LIMB, classes=("walk", "run"), duration=60.0
    ) as overlay:
        held = []
        for number in range(150):
            points = np.array([[10, 10], [200, 100], [300, 200]])
            overlay.add(image, number / 10, persons=[Person(points)], probabilities={"walk": 0.5})
            if number in (50, 149):
                gc.collect()
                held.append(psutil.Process().memory_info().rss)
    # A hundred frames as they are would be 34 MB.
    assert held[1] - held[0] < 16 * 2**20
