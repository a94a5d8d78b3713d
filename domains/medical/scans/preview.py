"""One picture of a scan and its labels: three planes with true proportions, prediction filled, reference outlined.

Planes are shown as radiologists look at them: the patient's right on the left, front and head up.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.orientation import to_canonical
from domains.medical.scans.scan import Scan

if TYPE_CHECKING:
    from PIL.ImageDraw import ImageDraw

__all__ = ["class_colour", "preview"]

# Okabe and Ito's colours, which colour-blind readers can tell apart, brightest on grey first.
_COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 200, 140), (240, 228, 66), (213, 94, 0), (204, 121, 167), (60, 120, 255),
)  # fmt: skip
_BACKGROUND = (18, 18, 22)
_INK = (225, 225, 225)
_FAINT = (150, 150, 155)
_MARGIN = 10
_LINE = 20
_FILL, _FILL_COLOUR = 0.42, 0.8
"""How much of a label's colour covers a grey image, and a colour picture, in which fainter ones vanish."""


@dataclass(frozen=True)
class _Plane:
    """One plane as it is drawn: rows from top to bottom, columns from left to right."""

    title: str
    image: Any  # (H, W) or (H, W, 3), as stored
    labels: NDArray[np.integer] | None  # (H, W)
    reference: NDArray[np.integer] | None  # (H, W)
    size: tuple[float, float]  # height, width; mm or pixels
    edges: tuple[str, str]  # marks at the left edge and at the top


def class_colour(number: int) -> tuple[int, int, int]:
    """The colour of label `number` (from 1), the same in every picture."""
    if number <= len(_COLOURS):
        return _COLOURS[number - 1]
    red, green, blue = colorsys.hsv_to_rgb((number * 0.618034) % 1.0, 0.65, 1.0)
    return int(red * 255), int(green * 255), int(blue * 255)


def preview(
    scan: Scan,
    labels: NDArray[np.integer] | None = None,
    classes: Sequence[str] = (),
    *,
    reference: NDArray[np.integer] | None = None,
    title: str = "",
    panel: int = 340,
) -> NDArray[np.uint8]:
    """Draws a scan with its labels.

    Args:
        scan: The scan; its first channel is shown, or all three of a colour picture.
        labels: Prediction `(*S)`, filled.
        classes: Names of labels 1, 2, …, for the legend.
        reference: Labels `(*S)` to compare with, outlined.
        title: A line above; say nothing that names a patient.
        panel: Height and width of a panel in pixels.

    Returns:
        `(H, W, 3)` uint8.
    """
    planes = _picture_planes(scan, labels, reference) if scan.is_2d else _three_planes(scan, labels, reference)
    window = _window(scan.array)
    longest = max(length for plane in planes for length in plane.size)
    scale = panel / longest
    tiles = [_draw_plane(plane, window, scale, marks=bool(scan.orientation)) for plane in planes]
    shown = _shown_classes(classes, labels, reference)
    return _compose(
        tiles, planes, shown, title, scale, scan, compares=not (scan.is_2d or reference is None or labels is None)
    )


def _picture_planes(
    scan: Scan, labels: NDArray[np.integer] | None, reference: NDArray[np.integer] | None
) -> list[_Plane]:
    """The picture, and the picture under each of the label maps; thin structures would vanish under two at once."""

    def upright(part: NDArray[Any]) -> NDArray[Any]:
        # Two axes of a volume format: the first runs along the patient's side, so it becomes the columns.
        return part.swapaxes(0, 1) if scan.orientation else part

    image = upright(np.moveaxis(scan.array, 0, -1) if scan.channels == 3 else scan.array[0])  # (H, W[, 3])
    size = [length * step for length, step in zip(scan.shape, scan.spacing, strict=True)]
    height, width = size[::-1] if scan.orientation else size
    shown = [("prediction", labels), ("reference", reference)]
    planes = [_Plane("image", image, None, None, (height, width), ("", ""))]
    return planes + [
        _Plane(name, image, upright(part), None, (height, width), ("", "")) for name, part in shown if part is not None
    ]


def _three_planes(
    scan: Scan, labels: NDArray[np.integer] | None, reference: NDArray[np.integer] | None
) -> list[_Plane]:
    volume, _, turn = to_canonical(scan.array[:1], scan.affine)
    parts = [None if part is None else turn.forward(part[None])[0] for part in (labels, reference)]
    spacing = turn.spacing(scan.spacing)
    extent = [length * step for length, step in zip(volume.shape[1:], spacing, strict=True)]  # mm along R, A, S
    at = _slices(volume.shape[1:], [part for part in parts if part is not None])
    planes = []
    for name, axis, columns, rows, edges in (
        ("axial", 2, 0, 1, ("R", "A")),
        ("coronal", 1, 0, 2, ("R", "S")),
        ("sagittal", 0, 1, 2, ("A", "S")),
    ):
        if min(volume.shape[1 + columns], volume.shape[1 + rows]) == 1 and max(volume.shape[1:]) > 1:
            continue
        # (rows, columns): right or front on the left, front or head up
        where = tuple(at[axis] if other == axis else slice(None) for other in range(3))
        image, filled, outlined = (None if part is None else part[where].T[::-1, ::-1] for part in (volume[0], *parts))
        place = f"{name} {at[axis] + 1}/{volume.shape[1 + axis]}"
        planes.append(_Plane(place, image, filled, outlined, (extent[rows], extent[columns]), edges))
    return planes


def _slices(shape: Sequence[int], overlays: Sequence[NDArray[np.integer]]) -> list[int]:
    """For each axis the slice with most labelled voxels, or the middle one."""
    at = [length // 2 for length in shape]
    # Counting every voxel of a large scan takes longer than drawing it.
    for step in (max(1, round((np.prod(shape) / 2e6) ** (1 / 3))), 1):
        coarse = [overlay[::step, ::step, ::step] != 0 for overlay in overlays]
        if any(part.any() for part in coarse):
            labelled = np.logical_or.reduce(coarse)
            for axis in range(3):
                others = tuple(other for other in range(3) if other != axis)
                best = int(labelled.sum(axis=others).argmax()) * step
                at[axis] = min(best, shape[axis] - 1)
            break
    return at


def _window(array: NDArray[Any]) -> tuple[float, float]:
    step = max(1, round((array[0].size / 2e5) ** (1 / (array.ndim - 1))))
    sample = array[(slice(None), *(slice(None, None, step),) * (array.ndim - 1))]
    if array.shape[0] == 3 and array.max() <= 255:
        return 0.0, 255.0
    # Air fills most of many scans; counted in, it would leave little contrast to tissue.
    inside = sample[sample > (-500 if sample.min() <= -900 else sample.min())]
    low, high = np.percentile(inside if inside.size else sample, (1, 99.5))
    return (float(low), float(high)) if high > low else (float(array.min()), float(array.max()) + 1e-6)


def _draw_plane(plane: _Plane, window: tuple[float, float], scale: float, *, marks: bool) -> NDArray[np.uint8]:
    from PIL import Image

    height, width = (max(1, round(length * scale)) for length in plane.size)
    low, high = window
    grey = np.clip((plane.image - low) * (255.0 / (high - low)), 0, 255).astype(np.uint8)
    picture = Image.fromarray(np.ascontiguousarray(grey)).convert("RGB")
    canvas = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC)).astype(np.float32)
    for overlay, outlined in ((plane.labels, False), (plane.reference, True)):
        if overlay is not None:
            _overlay(canvas, overlay, fill=_FILL if plane.image.ndim == 2 else _FILL_COLOUR, outlined=outlined)
    drawn = Image.fromarray(canvas.astype(np.uint8))
    if marks and any(plane.edges):
        _marks(drawn, plane.edges)
    return np.asarray(drawn)


def _overlay(canvas: NDArray[np.float32], overlay: NDArray[np.integer], *, fill: float, outlined: bool) -> None:
    from PIL import Image

    height, width = canvas.shape[:2]
    for number in np.unique(overlay[overlay > 0]):
        mask = Image.fromarray((overlay == number) * np.uint8(255))
        covered = np.asarray(mask.resize((width, height), Image.Resampling.BILINEAR)) > 127
        if outlined:
            canvas[_outline(covered)] = class_colour(int(number))
        else:
            colour = np.array(class_colour(int(number)), dtype=np.float32)
            canvas[covered] = canvas[covered] * (1 - fill) + colour * fill


def _outline(covered: NDArray[np.bool_]) -> NDArray[np.bool_]:
    inner = np.pad(covered, 2)
    eroded = inner[2:-2, 2:-2].copy()
    for rows, columns in ((0, 2), (4, 2), (2, 0), (2, 4), (1, 1), (1, 3), (3, 1), (3, 3)):
        eroded &= inner[rows : rows + covered.shape[0], columns : columns + covered.shape[1]]
    return covered & ~eroded


def _marks(drawn: Any, edges: tuple[str, str]) -> None:
    from PIL import ImageDraw

    opposite = {"R": "L", "A": "P", "S": "I"}
    pen, (width, height) = ImageDraw.Draw(drawn), drawn.size
    if min(width, height) < 40:
        return
    left, top = edges
    for text, at, anchor in (
        (left, (5, height // 2), "lm"),
        (opposite[left], (width - 5, height // 2), "rm"),
        (top, (width // 2, 4), "mt"),
        (opposite[top], (width // 2, height - 4), "mb"),
    ):
        pen.text(at, text, fill=(255, 235, 130), font=_font(14), anchor=anchor, stroke_width=2, stroke_fill=(0, 0, 0))


def _shown_classes(
    classes: Sequence[str], labels: NDArray[np.integer] | None, reference: NDArray[np.integer] | None
) -> list[tuple[str, tuple[int, int, int]]]:
    if labels is None and reference is None:
        return []
    return [(name, class_colour(number)) for number, name in enumerate(classes, start=1)]


def _compose(
    tiles: Sequence[NDArray[np.uint8]],
    planes: Sequence[_Plane],
    shown: Sequence[tuple[str, tuple[int, int, int]]],
    title: str,
    scale: float,
    scan: Scan,
    *,
    compares: bool,
) -> NDArray[np.uint8]:
    from PIL import Image, ImageDraw

    widths = [max(tile.shape[1], 110 if len(tiles) > 1 else 0) for tile in tiles]
    width = max(sum(widths) + _MARGIN * (len(tiles) + 1), 320)
    tallest = max(tile.shape[0] for tile in tiles)
    above = _MARGIN + (_LINE if title else 0) + (_LINE if any(plane.title for plane in planes) else 0)
    entries = [*shown, *([("filled: prediction, line: reference", _FAINT)] if compares else [])]
    rows = _legend_rows(entries, width)
    height = above + tallest + _MARGIN + _LINE * len(rows) + (_MARGIN if rows else 0)
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    pen = ImageDraw.Draw(sheet)
    if title:
        pen.text((_MARGIN, _MARGIN), title, fill=_INK, font=_font(15))
    left = (width - sum(widths) - _MARGIN * (len(tiles) - 1)) // 2
    for tile, plane, room in zip(tiles, planes, widths, strict=True):
        x, y = left + (room - tile.shape[1]) // 2, above + (tallest - tile.shape[0]) // 2
        sheet.paste(Image.fromarray(tile), (x, y))
        if plane.title:
            pen.text((left, above - _LINE + 2), plane.title, fill=_FAINT, font=_font(13))
        left += room + _MARGIN
    if scan.orientation:
        _scale_bar(pen, scale, (width - _MARGIN, above - 6))
    for index, row in enumerate(rows):
        _draw_legend_row(pen, row, above + tallest + _MARGIN + index * _LINE)
    return np.asarray(sheet)


def _scale_bar(pen: ImageDraw, scale: float, right_end: tuple[int, int]) -> None:
    length = next((mm for mm in (100, 50, 20, 10, 5, 2, 1) if mm * scale <= 90), 1)
    x, y = right_end
    pen.line([(x - length * scale, y), (x, y)], fill=_INK, width=2)
    pen.text((x - length * scale - 6, y), f"{length} mm", fill=_FAINT, font=_font(12), anchor="rm")


_Entry = tuple[str, tuple[int, int, int]]


def _legend_rows(entries: Sequence[_Entry], width: int) -> list[list[tuple[int, _Entry]]]:
    """Entries with their horizontal position, broken into rows."""
    rows: list[list[tuple[int, _Entry]]] = []
    x = width
    for entry in entries:
        needed = 18 + int(_font(13).getlength(entry[0])) + 18
        if x + needed > width - _MARGIN or not rows:
            rows.append([])
            x = _MARGIN
        rows[-1].append((x, entry))
        x += needed
    return rows


def _draw_legend_row(pen: ImageDraw, row: Sequence[tuple[int, _Entry]], y: int) -> None:
    for x, (name, colour) in row:
        if colour != _FAINT:
            pen.rectangle([x, y + 3, x + 11, y + 14], fill=colour)
        pen.text((x + (18 if colour != _FAINT else 0), y + 9), name, fill=_INK, font=_font(13), anchor="lm")


@lru_cache(maxsize=8)
def _font(size: int) -> Any:
    from PIL import ImageFont

    return ImageFont.load_default(size=size)
