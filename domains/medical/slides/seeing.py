"""What a model looked at: attention over the slide, as a picture and for QuPath, and the tiles at both ends."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.pictures import write_picture
from domains.medical.slides.outlines import feature, write_geojson
from domains.medical.slides.pictures import colour_of, heatmap, ranks, tile_strip
from domains.medical.slides.slide import Slide
from pipelines.errors import CaseError

__all__ = ["tile_size_of", "write_attention"]


def tile_size_of(case_id: str, attributes: Mapping[str, Any]) -> tuple[int, int]:
    """Pixels of level 0 along x and y that a tile of a bag covers. Raises `CaseError` where the bag does not say."""
    across = attributes.get("patch_size_level0")
    if not isinstance(across, (int, float)) or across <= 0:
        raise CaseError(
            case_id,
            "the bag does not say how large its tiles are",
            hint="The attribute patch_size_level0 holds it in bags of `pulvinar slides features` and of TRIDENT.",
        )
    return int(across), int(attributes.get("patch_height_level0", across))


def write_attention(
    item_id: str,
    slide: Slide,
    coords: NDArray[np.int64],
    size: tuple[int, int],
    weights: NDArray[np.floating[Any]],
    folder: Path,
    *,
    shown: int = 6,
) -> list[Path]:
    """Writes `ITEM.heatmap.png`, `ITEM.attention.geojson` and `ITEM.tiles.png`.

    Args:
        item_id: Name of the files.
        slide: The slide.
        coords: `(N, 2)`, corners of the tiles in pixels of level 0.
        size: Pixels of level 0 along x and y that a tile covers.
        weights: `(N,)`, attention; colours show ranks, the GeoJSON holds both.
        folder: Where to.
        shown: Tiles at each end.
    """
    files = [folder / f"{item_id}.{ending}" for ending in ("heatmap.png", "attention.geojson", "tiles.png")]
    write_picture(files[0], heatmap(slide, coords, size, weights))
    write_geojson(files[1], _features(coords, size, weights))
    write_picture(files[2], _ends(slide, coords, size, weights, shown))
    return files


def _features(
    coords: NDArray[np.int64], size: tuple[int, int], weights: NDArray[np.floating[Any]]
) -> list[dict[str, Any]]:
    """Tiles as detections, whose attention QuPath shows as a measurement map; most attention first."""
    shares = ranks(weights)
    colours = colour_of(shares)
    made = []
    for index in np.argsort(-weights, kind="stable"):
        (x, y), (width, height) = coords[index].tolist(), size
        made.append(
            feature(
                [[[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]],
                name=f"Tile {index}",
                classification="Attention",
                colour=colours[index].tolist(),
                measurements={"Attention": float(weights[index]), "Attention rank": round(float(shares[index]), 5)},
                kind="detection",
            )
        )
    return made


def _ends(
    slide: Slide, coords: NDArray[np.int64], size: tuple[int, int], weights: NDArray[np.floating[Any]], shown: int
) -> NDArray[np.uint8]:
    order = np.argsort(-weights, kind="stable")
    rows = []
    for title, chosen in (("most attention", order[:shown]), ("least attention", order[::-1][:shown])):
        tiles = []
        for index in chosen:
            x, y = coords[index].tolist()
            side = 224
            pixels = slide.scaled(x, y, side, side, scale=(size[0] / side, size[1] / side))
            tiles.append((f"{weights[index]:.2g}", pixels))
        rows.append((title, tiles))
    return tile_strip(rows)
