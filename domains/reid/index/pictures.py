"""Ranked lists as a picture: the query at the left, what was found beside it, with borders that say what it is.

right   green     wrong   red     junk   grey     not known   dark blue, thin
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from domains.reid.index.search import Found, Status
from pipelines.errors import CaseError
from pipelines.pictures import read_picture

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFont import FreeTypeFont, ImageFont

__all__ = ["BORDERS", "Row", "Tile", "draw_ranked_lists", "rows_of_search", "shortened"]

BORDERS: Mapping[Status, tuple[int, int, int]] = {
    "right": (34, 139, 34),
    "wrong": (205, 38, 38),
    "junk": (150, 150, 150),
    "": (60, 80, 120),
}
_GAP, _BORDER, _TEXT = 10, 5, 30
_BACKGROUND, _INK, _FAINT = (255, 255, 255), (30, 30, 30), (110, 110, 110)


@dataclass(frozen=True)
class Tile:
    """One image of a row.

    Attributes:
        image: uint8 `(height, width, 3)`, or None where it cannot be shown.
        title: The first line below it.
        detail: The second, fainter line.
        status: Which border it gets.
    """

    image: NDArray[np.uint8] | None
    title: str
    detail: str = ""
    status: Status = ""


@dataclass(frozen=True)
class Row:
    """A query and what was found for it, the best first."""

    query: Tile
    found: Sequence[Tile]


def draw_ranked_lists(rows: Sequence[Row], *, height: int = 128) -> NDArray[np.uint8]:
    """The rows as one picture: uint8 `(H, W, 3)`. All tiles are `height` pixels high and as wide as the widest image.

    Raises:
        ValueError: There is no row.
    """
    from PIL import Image, ImageDraw, ImageFont

    if not rows:
        raise ValueError("there is no ranked list to draw")
    font = ImageFont.load_default(size=11)
    width = _tile_width(rows, height)
    across = 1 + max(len(row.found) for row in rows)
    cell_width, cell_height = width + 2 * _BORDER + _GAP, height + 2 * _BORDER + _TEXT + _GAP
    gap_after_query = 3 * _GAP
    canvas = Image.new(
        "RGB", (across * cell_width + gap_after_query + _GAP, len(rows) * cell_height + _GAP), _BACKGROUND
    )
    pen = ImageDraw.Draw(canvas)
    for at, row in enumerate(rows):
        top = _GAP + at * cell_height
        for column, tile in enumerate([row.query, *row.found]):
            left = _GAP + column * cell_width + (gap_after_query if column else 0)
            border = _INK if column == 0 else BORDERS[tile.status]
            thin = column == 0 or tile.status == ""
            box = (left, top, left + width + 2 * _BORDER - 1, top + height + 2 * _BORDER - 1)
            pen.rectangle(box, outline=border, width=2 if thin else _BORDER)
            shown = _fitted(tile.image, width, height)
            if shown is None:
                pen.text((left + _BORDER + 4, top + height // 2), "no image", fill=_FAINT, font=font)
            else:
                canvas.paste(
                    shown, (left + _BORDER + (width - shown.width) // 2, top + _BORDER + (height - shown.height) // 2)
                )
            below = top + height + 2 * _BORDER + 2
            room = cell_width - 4 + (gap_after_query - _GAP if column == 0 else 0)
            pen.text((left, below), shortened(tile.title, room, font), fill=_INK, font=font)
            pen.text((left, below + 13), shortened(tile.detail, room, font), fill=_FAINT, font=font)
        middle = _GAP + cell_width + gap_after_query // 2 - _GAP // 2
        pen.line((middle, top, middle, top + height + 2 * _BORDER), fill=_FAINT, width=1)
    return np.asarray(canvas)


def rows_of_search(found: Sequence[Found], *, queries: Path, gallery: Path | None) -> list[Row]:
    """Rows of a search's results; images are read from below the two folders, and left out where they are not there."""
    rows = []
    for result in found:
        titled = f"query {result.identity}".strip()
        tiles = [
            Tile(
                None if gallery is None else _read(gallery / hit.source),
                f"{'-' if hit.status == 'junk' else hit.rank}  {hit.score:.3f}",
                " ".join(part for part in (hit.identity or hit.item, hit.camera and f"cam {hit.camera}") if part),
                hit.status,
            )
            for hit in result.hits
        ]
        rows.append(Row(Tile(_read(queries / result.source), titled, f"answer: {result.answer}"), tiles))
    return rows


def _read(path: Path) -> NDArray[np.uint8] | None:
    try:
        return read_picture(path, path.name)
    except CaseError:
        return None


def _tile_width(rows: Sequence[Row], height: int) -> int:
    shapes = [tile.image.shape for row in rows for tile in (row.query, *row.found) if tile.image is not None]
    widest = max((shape[1] * height / shape[0] for shape in shapes), default=height)
    return int(min(max(widest, 72), 2 * height))


def _fitted(image: NDArray[np.uint8] | None, width: int, height: int) -> Image | None:
    from PIL import Image as Images

    if image is None:
        return None
    scale = min(width / image.shape[1], height / image.shape[0])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return Images.fromarray(image).resize(size, Images.Resampling.BILINEAR)


def shortened(text: str, width: int, font: FreeTypeFont | ImageFont) -> str:
    """The text, or its beginning and its end where it is too wide: names of files often differ at their end alone."""
    if font.getlength(text) <= width:
        return text
    kept = len(text)
    while kept and font.getlength(cut := f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}") > width:
        kept -= 1
    return cut if kept else ""
