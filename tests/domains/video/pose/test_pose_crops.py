"""Cuts: exactly invertible, true to the aspect, the same for points and for pixels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.video.pose.augment import change_light, draw_crop, half_body, lower_joints
from domains.video.pose.crops import Crop, box_around, whole_box
from domains.video.pose.settings import AugmentSettings
from domains.video.skeletons.joints import joint_set

side = st.floats(2, 500)


@given(
    box=st.tuples(st.floats(-50, 300), st.floats(-50, 300), side, side),
    degrees=st.floats(-180, 180),
    flip=st.booleans(),
    margin=st.floats(1, 2),
)
@settings(max_examples=40, deadline=None)
def test_points_come_back_exactly(box, degrees, flip, margin):
    crop = Crop.around(box, (96, 64), margin=margin, degrees=degrees, shift=(0.1, -0.2), flip=flip)
    points = np.random.default_rng(0).uniform(-100, 600, (7, 2))
    np.testing.assert_allclose(crop.to_picture(crop.to_shares(points)), points, atol=1e-7)


@given(box=st.tuples(st.floats(-50, 300), st.floats(-50, 300), side, side))
@settings(max_examples=40, deadline=None)
def test_a_box_is_in_the_middle_and_whole_and_keeps_its_aspect(box):
    crop = Crop.around(box, (96, 64), margin=1.25)
    left, top, width, height = box
    corners = crop.to_shares(np.array([[left, top], [left + width, top + height]]))
    np.testing.assert_allclose(corners.mean(0), 0.5, atol=1e-9)
    extent = (corners[1] - corners[0]) * (64, 96)
    np.testing.assert_allclose(extent / (width, height), crop.scale, rtol=1e-9)
    np.testing.assert_allclose(max(corners[1] - corners[0]), 1 / 1.25, rtol=1e-9)


def test_a_whole_picture_of_the_right_aspect_fills_the_cut():
    crop = Crop.around(whole_box(48, 64), (96, 128), margin=1.0)
    np.testing.assert_allclose(crop.to_shares(np.array([[-0.5, -0.5], [63.5, 47.5]])), [[0, 0], [1, 1]])
    picture = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    same = Crop.around(whole_box(48, 64), (48, 64), margin=1.0).cut(picture)
    np.testing.assert_array_equal(same, picture)


@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 2.7])
@pytest.mark.parametrize("degrees", [0, 37])
@pytest.mark.parametrize("flip", [False, True])
def test_pixels_go_where_points_go(scale, degrees, flip):
    """The middle of a bright blob is found in the cut where its point is said to be, at any scale."""
    y, x = np.mgrid[:200, :260]
    point = np.array([150.3, 90.7])
    blob = 240 * np.exp(-((x - point[0]) ** 2 + (y - point[1]) ** 2) / (2 * (3 / min(scale, 1)) ** 2))
    picture = np.repeat(blob[..., None], 3, 2).astype(np.uint8)
    length = 96 / scale
    crop = Crop.around(
        (150 - length / 2, 95 - length / 2, length, length), (96, 96), margin=1, degrees=degrees, flip=flip
    )
    assert crop.scale == pytest.approx(scale)
    cut = crop.cut(picture)[..., 0].astype(float)
    rows, columns = np.mgrid[:96, :96]
    middle = np.array([(columns * cut).sum(), (rows * cut).sum()]) / cut.sum()
    np.testing.assert_allclose((middle + 0.5) / 96, crop.to_shares(point), atol=0.004)


def test_fine_stripes_are_averaged_not_sampled():
    picture = np.zeros((200, 200, 3), np.uint8)
    picture[:, ::2] = 200
    cut = Crop.around(whole_box(200, 200), (40, 40), margin=1).cut(picture)
    assert abs(cut[5:-5, 5:-5].mean() - 100) < 3
    assert cut[5:-5, 5:-5].std() < 25


def test_a_flip_is_the_mirror_image():
    picture = np.random.default_rng(0).integers(0, 255, (50, 70, 3)).astype(np.uint8)
    plain, mirrored = (Crop.around((10, 5, 40, 40), (48, 36), margin=1.1, flip=flip) for flip in (False, True))
    np.testing.assert_allclose(plain.cut(picture)[:, ::-1].astype(int), mirrored.cut(picture), atol=1)
    points = np.array([[12.0, 7], [40, 30]])
    shares = mirrored.to_shares(points)
    np.testing.assert_allclose(shares * (-1, 1) + (1, 0), plain.to_shares(points))


def test_boxes_that_are_none_are_named():
    with pytest.raises(ValueError, match="a width and height above 0"):
        Crop.around((0, 0, 0, 5), (32, 32))
    with pytest.raises(ValueError, match="finite"):
        Crop.around((float("nan"), 0, 4, 5), (32, 32))
    with pytest.raises(ValueError, match="at least one known point"):
        box_around(np.zeros((3, 2)), np.zeros(3, bool))
    assert box_around(np.array([[3.0, 4], [9, 4]]), np.array([True, True])) == (3, 3, 6, 2)


def test_half_a_body_holds_one_half_alone():
    lsp = joint_set("lsp14")
    lower = lower_joints(lsp)
    assert {lsp.joints[at] for at in np.flatnonzero(lower)} == {
        f"{side}_{part}" for side in ("left", "right") for part in ("hip", "knee", "ankle")
    }
    rng = np.random.default_rng(0)
    points = np.where(lower[:, None], rng.uniform(50, 90, (14, 2)), rng.uniform(0, 40, (14, 2)))
    boxes = {half_body(points, np.ones(14, bool), lower, rng) for _ in range(20)}
    assert boxes == {box_around(points, lower), box_around(points, ~lower)}
    assert half_body(points, np.arange(14) < 7, lower, rng) is None
    assert half_body(points, np.ones(14, bool), np.zeros(14, bool), rng) is None


def test_draws_stay_in_their_ranges():
    settings_ = AugmentSettings(rotation=0, scale=0.25, shift=0, flip=1)
    rng = np.random.default_rng(0)
    drawn = [draw_crop((0, 0, 50, 50), 1.0, (64, 64), settings_, rng, mirrored=True) for _ in range(50)]
    assert all(flip for _, flip in drawn)
    sizes = [64 / crop.scale / 50 for crop, _ in drawn]
    assert 0.75 <= min(sizes) < 0.85
    assert 1.15 < max(sizes) <= 1.25
    assert not draw_crop((0, 0, 50, 50), 1.0, (64, 64), settings_, rng, mirrored=False)[1]
    frames = [np.full((4, 4, 3), 100, np.uint8)] * 2
    first, second = change_light(frames, 0.3, rng)
    assert (first == second).all()
    assert change_light(frames, 0, rng)[0] is frames[0]
