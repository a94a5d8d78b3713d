"""A long video is looked at in windows, each frame decoded once, with the frames of one window in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from domains.video.clip_action.preparation import Preparation
from domains.video.clip_action.settings import ClipSettings, InputSettings
from domains.video.clip_action.windows import Segment, merge_windows, stream_windows, window_spans
from domains.video.clip_action.writing import time_line
from domains.video.decoding import Frame, Frames, VideoInfo, open_video

RATE = 10
GIVEN = InputSettings(size=(16, 24), fit="stretch")


class Counted:
    """A video that is never on disk: frame `n` is grey as `n`; it counts what is still in use."""

    backend = "made"

    def __init__(self, frames: int) -> None:
        self.info = VideoInfo(np.arange(frames) / RATE, 16, 24, 0, "made", "made")
        self.given = 0

    def read(self, indices: object) -> Frames:
        raise AssertionError("a long video is streamed")

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        for number in range(start, self.info.frames, step):
            self.given += 1
            yield Frame(number, float(self.info.times[number]), np.full((16, 24, 3), number % 251, np.uint8))

    def close(self) -> None: ...

    def __enter__(self) -> Counted:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_windows_lie_evenly_and_end_with_the_video() -> None:
    spans = window_spans(10.0, 4.0, 0.5)
    np.testing.assert_allclose(spans, [[0, 4], [2, 6], [4, 8], [6, 10]])
    spans = window_spans(11.0, 4.0, 0.5)
    assert len(spans) == 5
    assert spans[-1, 1] == pytest.approx(11)
    assert (np.diff(spans[:, 0]) <= 2).all()
    np.testing.assert_allclose(window_spans(1.0, 4.0, 0.5), [[0, 1]])


@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("sampling", ["uniform", "dense", "rate"])
def test_each_window_holds_frames_of_its_own_time(sampling: str, motion: bool) -> None:
    video = Counted(95)
    clip = ClipSettings.model_validate({"frames": 4, "sampling": sampling, "rate": 5.0, "views": 3})
    seen = list(stream_windows(video, Preparation(GIVEN, clip, motion), seconds=2.0, overlap=0.5))
    assert 85 < video.given <= 95
    assert [round(one.start, 3) for one in seen] == [round(x, 3) for x, _ in window_spans(9.5, 2.0, 0.5)]
    for window in seen:
        assert window.shot.frames.shape == (1, 4, 16, 24, 3)
        shown = window.shot.frames[0, :, 0, 0, 0] / RATE
        np.testing.assert_allclose(shown, window.shot.times[0])
        assert (shown >= window.start - 1e-6).all()
        assert (shown < window.stop).all()
        assert (window.shot.partners is not None) is motion


def test_memory_does_not_grow_with_the_length() -> None:
    import tracemalloc

    peaks = []
    for frames in (400, 4000):
        video = Counted(frames)
        preparation = Preparation(GIVEN, ClipSettings(frames=4), motion=True)
        tracemalloc.start()
        count = sum(1 for _ in stream_windows(video, preparation, seconds=2.0, overlap=0.5))
        peaks.append(tracemalloc.get_traced_memory()[1] - video.info.times.nbytes)
        tracemalloc.stop()
        assert count >= frames / RATE - 2
    one_window = 2 * RATE * 16 * 24 * 3
    assert peaks[1] < peaks[0] + one_window
    assert peaks[1] < 8 * one_window


def test_a_file_is_streamed_as_it_is_read(tmp_path: Path, square: Callable[..., Path]) -> None:
    path = square(tmp_path / "long.mp4", moves=True, frames=60)
    preparation = Preparation(GIVEN, ClipSettings(frames=3, views=1), motion=False)
    with open_video(path, size=(16, 24)) as video, open_video(path, size=(16, 24)) as other:
        for window in stream_windows(video, preparation, seconds=2.0, overlap=0.5):
            numbers = np.round(window.shot.times[0] * RATE).astype(int)
            np.testing.assert_array_equal(window.shot.frames[0], other.read(numbers.tolist()).images)


def test_moments_under_several_windows_take_their_mean() -> None:
    spans = np.array([[0.0, 2.0], [1.0, 3.0], [2.0, 4.0]])
    chances = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    segments = merge_windows(spans, chances)
    assert [(one.start, one.stop) for one in segments] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    np.testing.assert_allclose([one.probabilities[0] for one in segments], [1, 0.5, 0, 0])
    told = time_line(segments, ("calm", "fight"))
    assert [(one["action"], one["start"], one["stop"]) for one in told] == [("calm", 0, 2), ("fight", 2, 4)]
    assert told[0]["probability"] == pytest.approx(0.75)
    assert time_line([Segment(0, 1, np.array([0.2, 0.8]))], ("calm", "fight"))[0]["probability"] == 0.8
