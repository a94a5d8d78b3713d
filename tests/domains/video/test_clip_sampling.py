"""Which frames make up a clip: known answers, and what holds for all lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.video.sampling import ShortPolicy, at_rate, dense, uniform, views
from pipelines.errors import DataError


@pytest.mark.parametrize(
    ("frames", "count", "expected"),
    [
        pytest.param(40, 4, [5, 15, 25, 35], id="middles of four segments"),
        pytest.param(10, 3, [1, 5, 8], id="segments of 3.33 frames"),
        pytest.param(8, 8, [0, 1, 2, 3, 4, 5, 6, 7], id="each frame once"),
        pytest.param(3, 5, [0, 1, 2, 2, 2], id="too short, last repeated"),
        pytest.param(1, 2, [0, 0], id="one frame"),
    ],
)
def test_uniform_takes_the_middle_of_each_segment(frames: int, count: int, expected: list[int]) -> None:
    assert uniform(frames, count).tolist() == expected


@pytest.mark.parametrize(
    ("frames", "count", "stride", "expected"),
    [
        pytest.param(40, 4, 2, [16, 18, 20, 22], id="in the middle"),
        pytest.param(7, 4, 2, [0, 2, 4, 6], id="just fits"),
        pytest.param(6, 4, 2, [0, 2, 4, 5], id="one too short"),
    ],
)
def test_dense_lies_in_the_middle(frames: int, count: int, stride: int, expected: list[int]) -> None:
    assert dense(frames, count, stride=stride).tolist() == expected


def test_views_reach_from_the_beginning_to_the_end() -> None:
    assert [view.tolist() for view in views(40, 4, 3, stride=2)] == [[0, 2, 4, 6], [16, 18, 20, 22], [33, 35, 37, 39]]
    assert [view.tolist() for view in views(40, 4, 1, stride=2)] == [[16, 18, 20, 22]]
    assert [view.tolist() for view in views(3, 4, 2)] == [[0, 1, 2, 2]] * 2


@pytest.mark.parametrize(
    ("short", "expected"),
    [pytest.param("repeat_last", [0, 2, 4, 4, 4], id="repeat"), pytest.param("wrap", [0, 2, 4, 1, 3], id="wrap")],
)
def test_a_short_video_follows_the_policy(short: ShortPolicy, expected: list[int]) -> None:
    assert dense(5, 5, stride=2, short=short).tolist() == expected
    for take in (
        lambda: dense(5, 5, stride=2, short="error"),
        lambda: uniform(4, 5, short="error"),
        lambda: views(5, 5, 2, stride=2, short="error"),
        lambda: at_rate(np.arange(5) / 25, 16, 25, short="error"),
    ):
        with pytest.raises(DataError, match="the clip needs"):
            take()


def test_the_same_moments_are_taken_from_cameras_of_any_rate() -> None:
    moments = [np.arange(200) / 50, np.arange(100) / 25, np.arange(40) / 10]
    chosen = [times[at_rate(times, 8, 5)] for times in moments]
    for times in chosen[1:]:
        assert np.abs(times - chosen[0]).max() <= 0.05 + 1e-9  # half a step of the slowest
    assert np.abs(np.diff(chosen[0]) - 0.2).max() < 1e-9


def test_an_uneven_camera_is_taken_by_its_times() -> None:
    times = [0.0, 0.04, 0.08, 0.2, 0.24, 0.4, 0.8]
    assert at_rate(times, 5, 5, short="wrap").tolist() == [0, 3, 5, 5, 6]


def test_wrapping_goes_on_at_the_beginning() -> None:
    assert at_rate(np.arange(4) / 10, 8, 10, short="wrap").tolist() == [0, 1, 2, 3, 0, 1, 2, 3]


@given(frames=st.integers(1, 300), count=st.integers(1, 40), stride=st.integers(1, 9), seed=st.integers(0, 2**31 - 1))
def test_drawn_clips_hold_only_frames_of_the_video_in_order(frames: int, count: int, stride: int, seed: int) -> None:
    clips = [
        uniform(frames, count, rng=np.random.default_rng(seed)),
        dense(frames, count, stride=stride, rng=np.random.default_rng(seed)),
        at_rate(np.arange(frames) / 25, count, 25 / stride, rng=np.random.default_rng(seed)),
    ]
    for clip in clips:
        assert clip.shape == (count,)
        assert clip.min() >= 0
        assert clip.max() < frames
        assert (np.diff(clip) >= 0).all()
    assert (clips[0] == uniform(frames, count, rng=np.random.default_rng(seed))).all()


def test_every_start_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {int(dense(6, 3, rng=rng)[0]) for _ in range(200)} == {0, 1, 2, 3}
    assert {int(uniform(6, 2, rng=rng)[0]) for _ in range(200)} == {0, 1, 2}


def test_numbers_that_make_no_clip_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        uniform(0, 3)
    with pytest.raises(ValueError, match="rate must be above 0"):
        at_rate([0.0, 1.0], 2, 0)
    with pytest.raises(ValueError, match="times must increase"):
        at_rate([0.0, 1.0, 1.0], 2, 1)


def test_places_give_several_clips_of_one_video() -> None:
    first, second = (uniform(40, 4, place=place) for place in (0.25, 0.75))
    assert list(first) == [2, 12, 22, 32]
    assert list(second) == [7, 17, 27, 37]
    times = np.arange(40) / 10
    begin, end = (at_rate(times, 4, 5, place=place) for place in (0.0, 1.0))
    assert list(begin) == [0, 2, 4, 6]
    assert list(end) == [32, 34, 36, 38]
