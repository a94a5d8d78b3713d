"""Which frames make up a clip, and that all of them are changed alike."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from domains.video.clip_action.augment import ClipChange, crop, draw_change
from domains.video.clip_action.clips import FrameStore, later_frames, view_frames
from domains.video.clip_action.preparation import Preparation
from domains.video.clip_action.settings import AugmentSettings, ClipSettings, InputSettings
from domains.video.decoding import VideoInfo
from pipelines.errors import CaseError

Square = Callable[..., Path]


def info(times: list[float]) -> VideoInfo:
    return VideoInfo(np.array(times), 32, 48, 0, "h264", "mp4")


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ("uniform", [[1, 3, 6, 8], [3, 5, 8, 10]]),
        ("dense", [[0, 2, 4, 6], [5, 7, 9, 11]]),
        ("rate", [[0, 2, 4, 6], [4, 6, 8, 10]]),
    ],
)
def test_views_lie_over_the_whole_video(sampling: str, expected: list[list[int]]) -> None:
    clip = ClipSettings.model_validate({"frames": 4, "sampling": sampling, "views": 2, "rate": 5.0})
    found = [list(map(int, view)) for view in view_frames(info(list(np.arange(12) / 10)), clip)]
    if sampling == "uniform":
        expected = [[0, 3, 6, 9], [2, 5, 8, 11]]
    assert found == expected


def test_a_moment_later_is_told_by_time_and_the_end_looks_back() -> None:
    even = np.arange(10) / 10
    np.testing.assert_array_equal(later_frames(even, np.array([0, 4, 9]), 0.1), [1, 5, 8])
    np.testing.assert_array_equal(later_frames(even, np.array([0, 4, 9]), 0.3), [3, 7, 6])
    uneven = np.array([0, 0.05, 0.1, 0.4, 0.5])
    np.testing.assert_array_equal(later_frames(uneven, np.array([0, 2, 3]), 0.1), [2, 3, 4])
    np.testing.assert_array_equal(later_frames(np.zeros(1), np.array([0, 0]), 0.1), [0, 0])
    slow = np.arange(4) / 2  # slower than the gap: the next frame, never the same one
    np.testing.assert_array_equal(later_frames(slow, np.array([0, 1, 3]), 0.1), [1, 2, 2])


def test_frames_are_decoded_once_and_only_so_many_are_held(tmp_path: Path, square: Square) -> None:
    path = square(tmp_path / "a.mp4", moves=True, frames=12)
    given = InputSettings(size=(16, 24), fit="stretch")
    store = FrameStore(given, limit=12 * 16 * 24 * 3)
    footage = store.open("a", path)
    assert footage.held is not None
    assert footage.held.shape == (12, 16, 24, 3)
    assert store.open("a", path) is footage
    other = store.open("b", path)
    assert other.held is None  # the limit is used up
    np.testing.assert_array_equal(other.frames(np.array([3, 0, 3])), footage.frames(np.array([3, 0, 3])))
    thinned = FrameStore(given.model_copy(update={"rate": 5.0}), limit=0).open("a", path)
    assert list(thinned.numbers) == [0, 2, 4, 6, 8, 10]
    np.testing.assert_array_equal(thinned.frames(np.array([7])), footage.frames(np.array([6])))


def test_a_crop_covers_the_size_and_keeps_the_shape(tmp_path: Path, square: Square) -> None:
    path = square(tmp_path / "a.mp4", moves=False)  # 32 × 48
    footage = FrameStore(InputSettings(size=(16, 16), fit="crop"), limit=0).open("a", path)
    assert footage.size == (16, 24)
    images = footage.frames(np.array([0]))
    np.testing.assert_array_equal(crop(images, (16, 16)), images[:, :, 4:20])
    assert crop(images, (16, 16), zoom=0.5).shape == (1, 16, 16, 3)


def test_all_frames_of_a_clip_and_their_partners_are_changed_alike(tmp_path: Path, square: Square) -> None:
    footage = FrameStore(InputSettings(size=(32, 48), fit="stretch"), limit=0).open(
        "a", square(tmp_path / "a.mp4", moves=False)
    )
    given = InputSettings(size=(32, 48), fit="stretch")
    preparation = Preparation(given, ClipSettings(frames=4), motion=True)
    change = draw_change(AugmentSettings(flip=1.0, zoom=0.5), np.random.default_rng(0))
    shot = preparation.shot(footage, [np.array([0, 3, 6, 9])], change)
    assert shot.partners is not None
    assert shot.frames.shape == shot.partners.shape == (1, 4, 32, 48, 3)
    # Nothing moves before the camera, so nothing moves in the changed clip but what coding left.
    assert np.abs(shot.frames.astype(int) - shot.partners).mean() < 2
    assert np.abs(shot.frames[0, 0].astype(int) - shot.frames[0, 3]).mean() < 2
    same = preparation.shot(footage, [np.array([0, 3, 6, 9])], ClipChange())
    assert np.abs(same.frames[0, 0].astype(int) - shot.frames[0, 0]).mean() > 5
    np.testing.assert_array_equal(ClipChange(flip=True)(same.frames[0], (32, 48)), same.frames[0][:, :, ::-1])


def test_a_video_that_is_too_short_is_refused_by_policy(tmp_path: Path, square: Square) -> None:
    path = square(tmp_path / "a.mp4", moves=True, frames=3)
    given = InputSettings(size=(16, 16))
    footage = FrameStore(given, limit=0).open("a", path)
    with pytest.raises(CaseError, match="has 3 frames, the clip needs 8"):
        Preparation(given, ClipSettings(frames=8, short="error"), motion=False).views(footage)
    shot = Preparation(given, ClipSettings(frames=8, short="repeat_last", views=1), motion=False).views(footage)
    np.testing.assert_array_equal(shot.frames[0, 2], shot.frames[0, 7])
