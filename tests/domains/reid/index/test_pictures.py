"""Ranked lists as pictures: what stands where, and which border it has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from domains.reid.index.pictures import BORDERS, Row, Tile, draw_ranked_lists, rows_of_search, shortened
from domains.reid.index.search import Found, Hit


def plain(value: int, shape: tuple[int, int] = (64, 32)) -> np.ndarray:
    return np.full((*shape, 3), value, dtype=np.uint8)


def border_colours(drawn: np.ndarray) -> list[tuple[int, int, int]]:
    """Colours of the borders from left to right, on a line through the first row of tiles that misses the images."""
    line = drawn[12]
    colours: list[tuple[int, int, int]] = []
    for pixel in line:
        colour = (int(pixel[0]), int(pixel[1]), int(pixel[2]))
        if colour in BORDERS.values() and (not colours or colours[-1] != colour):
            colours.append(colour)
    return colours


def test_right_is_green_wrong_is_red_and_junk_is_grey() -> None:
    found = [Tile(plain(90), "1  0.9", "a", status) for status in ("right", "wrong", "junk")]
    drawn = draw_ranked_lists([Row(Tile(plain(10), "query"), found)])
    assert drawn.dtype == np.uint8
    assert border_colours(drawn) == [BORDERS["right"], BORDERS["wrong"], BORDERS["junk"]]


def test_the_query_stands_at_the_left_of_its_row() -> None:
    rows = [Row(Tile(plain(10 * at), "query"), [Tile(plain(200), "1", status="wrong")] * 3) for at in (1, 2)]
    drawn = draw_ranked_lists(rows)
    for value in (10, 20):
        places = np.argwhere((drawn == value).all(axis=2))
        assert places[:, 1].max() < drawn.shape[1] / 3
    assert np.argwhere((drawn == 200).all(axis=2))[:, 1].min() > np.argwhere((drawn == 10).all(axis=2))[:, 1].max()


def test_images_keep_their_proportions_and_rows_may_differ_in_length() -> None:
    rows = [
        Row(Tile(plain(50, (20, 60)), "wide"), [Tile(plain(51, (60, 20)), "tall"), Tile(None, "gone")]),
        Row(Tile(plain(52, (9, 9)), "small"), []),
    ]
    drawn = draw_ranked_lists(rows, height=96)

    def extent(value: int) -> tuple[int, int]:
        places = np.argwhere((drawn == value).all(axis=2))
        height, width = places.max(axis=0) - places.min(axis=0) + 1
        return int(height), int(width)

    assert extent(50) == (64, 192)
    assert extent(51) == (96, 32)
    assert extent(52) == (96, 96)


def test_long_names_stay_within_their_tile() -> None:
    tile = Tile(plain(255), "x" * 400, "y" * 400)
    narrow = draw_ranked_lists([Row(tile, [])])
    assert narrow.shape[1] < 300


def test_no_list_is_refused() -> None:
    with pytest.raises(ValueError, match="no ranked list"):
        draw_ranked_lists([])


def test_rows_of_a_search_read_their_images(tmp_path: Path) -> None:
    Image.fromarray(plain(70)).save(tmp_path / "q.png")
    Image.fromarray(plain(80)).save(tmp_path / "g.png")
    (tmp_path / "broken.png").write_bytes(b"no image")
    hits = (
        Hit(1, "g", "anna", "2", 0.5, "g.png", "junk"),
        Hit(1, "broken", "ben", "", 0.4, "broken.png", "wrong"),
        Hit(2, "gone", "ben", "", 0.3, "gone.png", "wrong"),
    )
    row = rows_of_search([Found("q", "q.png", "anna", "ben", hits)], queries=tmp_path, gallery=tmp_path)[0]
    assert row.query.image is not None
    assert row.query.image[0, 0, 0] == 70
    assert [tile.image is None for tile in row.found] == [False, True, True]
    assert [tile.title for tile in row.found] == ["-  0.500", "1  0.400", "2  0.300"]
    assert row.found[0].detail == "anna cam 2"
    assert row.query.detail == "answer: ben"


def test_a_name_that_is_too_long_keeps_its_beginning_and_its_end() -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size=11)
    long = "bounding_box_test-0005_c3s1_000651_02"
    cut = shortened(long, 90, font)
    assert font.getlength(cut) <= 90
    first, last = cut.split("…")
    assert long.startswith(first)
    assert long.endswith(last)
    assert min(len(first), len(last)) >= 4
    assert shortened("short", 90, font) == "short"
    assert shortened(long, 1, font) == ""
