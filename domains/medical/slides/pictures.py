"""Pictures of slides: tissue and tiles over the thumbnail, attention as a heatmap, tiles side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.outlines import outline
from domains.medical.slides.slide import Slide
from domains.medical.slides.tiles import TileGrid
from domains.medical.slides.tissue import TissueMask

__all__ = ["COLOURS", "colour_of", "heatmap", "outline_picture", "ranks", "tile_strip"]

_TISSUE = (22, 130, 60)
_GRID = (30, 90, 200)
_TEXT = (30, 30, 30)
COLOURS = np.array(
    [(49, 54, 149), (116, 173, 209), (224, 243, 248), (254, 224, 144), (244, 109, 67), (165, 0, 38)], np.float64
)
"""From the least to the most attention: blue over pale to red (ColorBrewer RdYlBu, safe for colour-blind readers)."""


def colour_of(share: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
    """Colours `(N, 3)` of values from 0 to 1."""
    at = np.clip(share, 0, 1) * (len(COLOURS) - 1)
    channels = [np.interp(at, np.arange(len(COLOURS)), COLOURS[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def ranks(values: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """The share of values that are smaller, from 0 to 1; equal values share a rank.

    Attention weights of a large bag differ by orders of magnitude: shown as they are, one tile is red and all are blue.
    """
    if len(values) < 2:
        return np.ones(len(values))
    ordered = np.sort(values)
    first, last = np.searchsorted(ordered, values, "left"), np.searchsorted(ordered, values, "right") - 1
    shown: NDArray[np.float64] = (first + last) / 2 / (len(values) - 1)
    return shown


def outline_picture(
    slide: Slide, tissue: TissueMask, grid: TileGrid | None = None, *, longest: int = 1200
) -> NDArray[np.uint8]:
    """The thumbnail with the outline of the tissue, and the tiles where a grid is given."""
    picture, scale = _thumbnail(slide, longest)
    if grid is not None:
        width, height = grid.size_level0
        for x, y in grid.coords:
            corners = [(x / scale, y / scale), ((x + width) / scale, (y + height) / scale)]
            first, second = ((round(float(a)), round(float(b))) for a, b in corners)
            cv2.rectangle(picture, first, second, _GRID, 1, cv2.LINE_AA)
    for rings in outline(tissue):
        for ring in rings:
            points = np.round(np.asarray(ring) / scale * 16).astype(np.int32)
            cv2.polylines(picture, [points], True, _TISSUE, 2, cv2.LINE_AA, shift=4)
    return picture


def heatmap(
    slide: Slide,
    coords: NDArray[np.int64],
    size: tuple[int, int],
    weights: NDArray[np.floating[Any]],
    *,
    longest: int = 1600,
    opacity: float = 0.55,
) -> NDArray[np.uint8]:
    """Attention over the thumbnail, with its scale below.

    Args:
        slide: The slide.
        coords: `(N, 2)`, corners of the tiles in pixels of level 0.
        size: Pixels of level 0 along x and y that a tile covers.
        weights: `(N,)`; colours show their ranks. Where tiles overlap, the mean counts.
        longest: Longer side of the thumbnail.
        opacity: Of the colours.

    Returns:
        uint8 `(H, W, 3)`.
    """
    picture, scale = _thumbnail(slide, longest)
    total = np.zeros(picture.shape[:2])
    count = np.zeros(picture.shape[:2])
    for (x, y), share in zip(coords, ranks(weights), strict=True):
        left, top = round(float(x / scale)), round(float(y / scale))
        right, bottom = round(float((x + size[0]) / scale)), round(float((y + size[1]) / scale))
        area = np.s_[top : max(bottom, top + 1), left : max(right, left + 1)]
        total[area] += share
        count[area] += 1
    covered = count > 0
    colours = colour_of(total[covered] / count[covered])
    picture[covered] = ((1 - opacity) * picture[covered] + opacity * colours).round().astype(np.uint8)
    return np.concatenate([picture, _colour_bar(picture.shape[1])])


def tile_strip(
    rows: Sequence[tuple[str, Sequence[tuple[str, NDArray[np.uint8]]]]], *, side: int = 160
) -> NDArray[np.uint8]:
    """Rows of captioned tiles, each row with a title: uint8 `(H, W, 3)`, white where there is nothing."""
    widest = max((len(tiles) for _, tiles in rows), default=1)
    width = max(widest, 3) * (side + 8) + 8
    strips = []
    for title, tiles in rows:
        strip = np.full((side + 58, width, 3), 255, np.uint8)
        _write(strip, title, (8, 20), 0.55)
        for place, (caption, tile) in enumerate(tiles):
            left = 8 + place * (side + 8)
            shrinks = tile.shape[0] >= side
            strip[30 : 30 + side, left : left + side] = cv2.resize(
                tile, (side, side), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            )
            _write(strip, caption, (left, side + 48), 0.42)
        strips.append(strip)
    return np.concatenate(strips)


def _thumbnail(slide: Slide, longest: int) -> tuple[NDArray[np.uint8], float]:
    """The whole slide, and pixels of level 0 along one of its."""
    scale = max(1.0, max(slide.width, slide.height) / longest)
    return slide.overview(scale).copy(), scale


def _colour_bar(width: int) -> NDArray[np.uint8]:
    bar = np.full((44, width, 3), 255, np.uint8)
    length = min(260, width - 16)
    bar[8:22, 8 : 8 + length] = colour_of(np.linspace(0, 1, length))
    _write(bar, "least attention", (8, 38), 0.4)
    if length > 200:
        _write(bar, "most", (8 + length - 34, 38), 0.4)
    return bar


def _write(picture: NDArray[np.uint8], text: str, at: tuple[int, int], size: float) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, _TEXT, 1, cv2.LINE_AA)
