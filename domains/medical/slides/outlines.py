"""Outlines of tissue as GeoJSON: QuPath opens what is written, and what was corrected by hand there is read again.

Coordinates are pixels of level 0, as QuPath has them; each piece of tissue is a polygon with its holes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import cv2
import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.tissue import TissueMask
from pipelines.errors import CaseError

__all__ = ["feature", "feature_collection", "outline", "read_outlines", "tissue_features", "write_geojson"]

_COLOUR = (46, 160, 67)
_NOT_TISSUE = ("ignore", "artifact", "artefact", "background", "exclude", "hole", "ink", "pen", "fold", "necrosis*")
_LARGEST_FILE = 512 * 2**20
_RING = list[list[float]]


def tissue_features(tissue: TissueMask) -> list[dict[str, Any]]:
    """A GeoJSON feature for each piece of tissue, the largest first."""
    pieces = sorted(outline(tissue), key=lambda rings: -_ring_area(rings[0]))
    return [
        feature(rings, name=f"Tissue {number}", classification="Tissue", colour=_COLOUR)
        for number, rings in enumerate(pieces, start=1)
    ]


def outline(tissue: TissueMask) -> list[list[_RING]]:
    """Each piece as its outer ring and its holes, in pixels of level 0; rings are closed."""
    # Contours run through the centres of pixels; at twice the size their points can be moved to the pixels' edges.
    doubled = np.pad(tissue.mask.astype(np.uint8).repeat(2, 0).repeat(2, 1), 1)
    contours, hierarchy = cv2.findContours(doubled, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
    pieces: dict[int, list[_RING]] = {}
    for index, contour in enumerate(contours):
        parent = int(hierarchy[0][index][3])
        corners = (contour[:, 0, :].astype(np.float64) - 1) / 2
        ring = _on_edges(corners, tissue)
        if parent < 0:
            pieces.setdefault(index, []).insert(0, ring)
        else:
            pieces.setdefault(parent, []).append(ring)
    return [rings for rings in pieces.values() if len(rings[0]) > 3]


def _on_edges(corners: NDArray[np.float64], tissue: TissueMask) -> _RING:
    """Points at pixel edges, in pixels of level 0, closed."""
    edges = np.floor(corners + 0.5)
    edges = edges[(edges != np.roll(edges, 1, axis=0)).any(axis=1)] * tissue.scale
    ring: _RING = [[round(float(x), 1), round(float(y), 1)] for x, y in edges]
    return [*ring, ring[0]]


def feature(
    rings: Sequence[_RING],
    *,
    name: str,
    classification: str,
    colour: Sequence[int],
    measurements: dict[str, float] | None = None,
    kind: str = "annotation",
) -> dict[str, Any]:
    """One polygon as QuPath has it."""
    made: dict[str, Any] = {
        "type": "Feature",
        "id": str(uuid5(NAMESPACE_URL, f"{name} {rings[0][:8]}")),
        "geometry": {"type": "Polygon", "coordinates": list(rings)},
        "properties": {
            "objectType": kind,
            "name": name,
            "classification": {"name": classification, "color": [int(value) for value in colour]},
        },
    }
    if measurements:
        made["properties"]["measurements"] = measurements
    return made


def feature_collection(features: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is written to a file."""
    return {"type": "FeatureCollection", "features": list(features)}


def write_geojson(path: Path, features: Sequence[dict[str, Any]]) -> None:
    """Writes a FeatureCollection."""
    path.write_text(json.dumps(feature_collection(features)) + "\n", encoding="utf-8")


def read_outlines(case_id: str, path: Path, *, scale: tuple[float, float], size: tuple[int, int]) -> TissueMask:
    """Tissue as it was outlined, by hand or by us.

    Polygons count as tissue, unless their class says otherwise (Ignore, Artifact, Background, Exclude and the like);
    those are cut out. Points and lines are passed over.

    Args:
        case_id: For messages.
        path: A FeatureCollection, a feature, a geometry or a list of features.
        scale: Pixels of level 0 along x and y that one pixel of the mask is to cover.
        size: Width and height of level 0.

    Raises:
        CaseError: It is no GeoJSON, or no polygon in it lies on the slide.
    """
    shape = max(1, round(size[1] / scale[1])), max(1, round(size[0] / scale[0]))
    mask = np.zeros(shape, np.bool_)
    cut = np.zeros(shape, np.bool_)
    for polygon, name in _polygons(case_id, _load(case_id, path)):
        away = any(name.casefold().startswith(word.rstrip("*")) for word in _NOT_TISSUE) or name.endswith("*")
        _fill(cut if away else mask, polygon, scale)
    mask &= ~cut
    if not mask.any():
        raise CaseError(
            case_id,
            f"{path.name} outlines no tissue on the slide",
            hint="Its coordinates should be pixels of the full resolution, as QuPath exports them.",
        )
    return TissueMask(mask, scale)


def _load(case_id: str, path: Path) -> Any:
    try:
        if path.stat().st_size > _LARGEST_FILE:
            raise CaseError(case_id, f"{path.name} has more than {_LARGEST_FILE // 2**20} MiB")
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CaseError(
            case_id, f"{path.name} is no GeoJSON: {error}", hint="Export it from QuPath as GeoJSON."
        ) from error


def _polygons(case_id: str, held: Any, name: str = "") -> Iterator[tuple[list[Any], str]]:
    """Polygons (a list of rings) and the class they have."""
    if isinstance(held, list):
        for one in held:
            yield from _polygons(case_id, one, name)
        return
    if not isinstance(held, dict):
        raise CaseError(case_id, f"GeoJSON that holds a {type(held).__name__} where an object should stand")
    kind = held.get("type")
    if kind == "FeatureCollection":
        yield from _polygons(case_id, held.get("features") or [], name)
    elif kind == "Feature":
        properties = held.get("properties") or {}
        classified = properties.get("classification") or {}
        named = classified.get("name") or " ".join(classified.get("names") or [])
        if held.get("geometry"):
            yield from _polygons(case_id, held["geometry"], str(named or ""))
    elif kind == "GeometryCollection":
        yield from _polygons(case_id, held.get("geometries") or [], name)
    elif kind == "Polygon":
        yield held.get("coordinates") or [], name
    elif kind == "MultiPolygon":
        for polygon in held.get("coordinates") or []:
            yield polygon, name


def _fill(mask: NDArray[np.bool_], polygon: list[Any], scale: tuple[float, float]) -> None:
    """Marks the pixels whose centre lies in a polygon and in none of its holes (even-odd rule)."""
    ends = [np.asarray(ring, np.float64).reshape(len(ring), -1)[:, :2] / scale for ring in polygon if len(ring) > 2]
    if not ends:
        return
    start = np.concatenate(ends)  # (E, 2)
    stop = np.concatenate([np.roll(ring, -1, axis=0) for ring in ends])
    rising = np.minimum(start[:, 1], stop[:, 1]), np.maximum(start[:, 1], stop[:, 1])
    height, width = mask.shape
    for row in range(max(0, int(rising[0].min())), min(height, int(np.ceil(rising[1].max())))):
        centre = row + 0.5
        crossed = (rising[0] <= centre) & (centre < rising[1])
        (x0, y0), (x1, y1) = start[crossed].T, stop[crossed].T
        crossings = np.ceil(x0 + (centre - y0) * (x1 - x0) / (y1 - y0) - 0.5)
        counts = np.bincount(np.clip(crossings, 0, width).astype(np.int64), minlength=width + 1)
        mask[row] |= (np.cumsum(counts)[:width] % 2).astype(np.bool_)


def _ring_area(ring: _RING) -> float:
    x, y = np.asarray(ring).T
    return abs(float(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1]))) / 2
