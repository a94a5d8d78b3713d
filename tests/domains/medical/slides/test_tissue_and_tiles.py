"""Tissue is what is coloured; outlines keep it to the pixel; tiles lie on it and nowhere else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from domains.medical.slides.opening import open_slide
from domains.medical.slides.outlines import read_outlines, tissue_features, write_geojson
from domains.medical.slides.picture_reader import ArraySlide
from domains.medical.slides.slide import Level, SlideFacts
from domains.medical.slides.tiles import lay_tiles
from domains.medical.slides.tissue import TissueMask, find_tissue, whole_slide
from domains.medical.slides.tissue_settings import TileSettings, TissueSettings
from pipelines.errors import CaseError

FINE = TissueSettings(mpp=4, piece=2_000)


def in_memory(pixels: NDArray[np.uint8], mpp: float | None = 1.0) -> ArraySlide:
    size = (mpp, mpp) if mpp else None
    level = Level(pixels.shape[1], pixels.shape[0], 1.0)
    return ArraySlide("case", Path("case.png"), pixels, SlideFacts("array", (level,), size))


def test_tissue_is_found_without_ink_specks_and_glass(slide_file: Path) -> None:
    with open_slide("case", slide_file) as slide:
        tissue = find_tissue(slide, FINE)

    def at(x: int, y: int) -> bool:
        return bool(tissue.mask[int(y / tissue.scale[1]), int(x / tissue.scale[0])])

    assert at(700, 1100)
    assert at(1500, 400)
    assert not at(1500, 1250), "ink"
    assert not at(1800, 1400), "a speck"
    assert not at(1900, 900), "glass"
    assert not at(640, 700), "a hole of 70,000 µm²"
    expected = np.pi * (480 * 520 - 150**2 + 220 * 160) / (2048 * 1536)
    assert tissue.share == pytest.approx(expected, rel=0.03)


def test_small_holes_are_filled(slide_file: Path) -> None:
    # The hole has a radius of 75 µm.
    with open_slide("case", slide_file) as slide:
        tissue = find_tissue(slide, TissueSettings(mpp=4, hole=20_000))
    assert tissue.mask[int(700 / tissue.scale[1]), int(640 / tissue.scale[0])]


def test_ink_counts_where_it_is_asked_for(slide_file: Path) -> None:
    with open_slide("case", slide_file) as slide:
        tissue = find_tissue(slide, TissueSettings(mpp=4, piece=2_000, ink=False))
    assert tissue.mask[int(1250 / tissue.scale[1]), int(1500 / tissue.scale[0])]


def test_glass_alone_holds_no_tissue() -> None:
    rng = np.random.default_rng(0)
    glass = np.clip(rng.normal(240, 4, (600, 800, 3)), 0, 255).astype(np.uint8)
    assert find_tissue(in_memory(glass), FINE).is_empty


def test_a_slide_full_of_tissue_is_full() -> None:
    rng = np.random.default_rng(0)
    pale, dark = np.array([225, 180, 205]), np.array([150, 70, 140])
    share = cv2.GaussianBlur(rng.random((600, 800)), (0, 0), 8)[..., None] > 0.5
    full = np.clip(np.where(share, pale, dark) + rng.normal(0, 6, (600, 800, 3)), 0, 255).astype(np.uint8)
    assert find_tissue(in_memory(full), FINE).share > 0.98


@pytest.mark.parametrize("settings", [FINE, TissueSettings(method="whole")], ids=["saturation", "whole"])
def test_fluorescence_is_refused_by_name(settings: TissueSettings) -> None:
    dark = np.zeros((400, 400, 3), np.uint8)
    cv2.circle(dark, (200, 200), 60, (0, 0, 255), -1)
    with pytest.raises(CaseError, match="fluorescence"):
        find_tissue(in_memory(dark), settings)


def test_a_slide_of_impossible_size_is_refused(slide_file: Path) -> None:
    level = Level(200_000, 200_000, 1.0)
    slide = ArraySlide("case", Path("x"), np.zeros((1, 1, 3), np.uint8), SlideFacts("x", (level,), (8.0, 8.0)))
    with pytest.raises(CaseError, match="160 × 160 cm"):
        find_tissue(slide, TissueSettings())


@pytest.mark.parametrize("seed", range(4))
def test_outlines_bring_the_mask_back_to_the_pixel(tmp_path: Path, seed: int) -> None:
    blobs = cv2.GaussianBlur(np.random.default_rng(seed).random((60, 90)), (0, 0), 2) > 0.5
    tissue = TissueMask(blobs, (16.3, 15.7))
    write_geojson(tmp_path / "a.geojson", tissue_features(tissue))
    size = round(90 * 16.3), round(60 * 15.7)
    back = read_outlines("case", tmp_path / "a.geojson", scale=tissue.scale, size=size)
    np.testing.assert_array_equal(back.mask, blobs)


def test_geojson_is_what_qupath_opens(tmp_path: Path) -> None:
    mask = np.zeros((20, 30), bool)
    mask[2:10, 3:12] = True
    mask[5, 6] = False
    write_geojson(tmp_path / "a.geojson", tissue_features(TissueMask(mask, (10.0, 10.0))))
    held = json.loads((tmp_path / "a.geojson").read_text())
    assert held["type"] == "FeatureCollection"
    (piece,) = held["features"]
    assert piece["properties"]["objectType"] == "annotation"
    assert piece["properties"]["classification"]["name"] == "Tissue"
    rings = piece["geometry"]["coordinates"]
    assert [len(rings), rings[0][0], rings[0][0] == rings[0][-1]] == [2, [30.0, 20.0], True]
    assert np.ptp(np.array(rings[0]), axis=0).tolist() == [90.0, 80.0]
    assert sorted(map(tuple, rings[1][:-1])) == [(60, 50), (60, 60), (70, 50), (70, 60)]


def _square(x: int, y: int, side: int) -> list[list[int]]:
    return [[x, y], [x + side, y], [x + side, y + side], [x, y + side], [x, y]]


def _feature(geometry: dict[str, Any], name: str = "") -> dict[str, Any]:
    return {"type": "Feature", "geometry": geometry, "properties": {"classification": {"name": name}} if name else {}}


FAR = {"type": "Polygon", "coordinates": [_square(5000, 5000, 9)]}
TWO = {"type": "MultiPolygon", "coordinates": [[_square(0, 0, 100)], [_square(500, 0, 100)]]}
POLYGON = {"type": "Polygon", "coordinates": [_square(100, 100, 400)]}


@pytest.mark.parametrize(
    ("held", "pixels"),
    [
        pytest.param({"type": "FeatureCollection", "features": [_feature(POLYGON)]}, 1600, id="collection"),
        pytest.param([_feature(POLYGON, "Tumor")], 1600, id="list of any class"),
        pytest.param(POLYGON, 1600, id="geometry"),
        pytest.param(
            {"type": "MultiPolygon", "coordinates": [[_square(0, 0, 100)], [_square(500, 0, 100)]]}, 200, id="multi"
        ),
        pytest.param(
            [_feature(POLYGON), _feature({"type": "Polygon", "coordinates": [_square(100, 100, 200)]}, "Artifact")],
            1200,
            id="an artifact is cut out",
        ),
        pytest.param([_feature(POLYGON), _feature({"type": "Point", "coordinates": [1, 1]})], 1600, id="points"),
    ],
)
def test_outlines_drawn_by_hand_are_used(tmp_path: Path, held: Any, pixels: int) -> None:
    (tmp_path / "a.geojson").write_text(json.dumps(held))
    mask = read_outlines("case", tmp_path / "a.geojson", scale=(10.0, 10.0), size=(1000, 800)).mask
    assert mask.sum() == pixels


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("{", "no GeoJSON", id="broken"),
        pytest.param('["a"]', "holds a str", id="no objects"),
        pytest.param(json.dumps(FAR), "no tissue", id="beside"),
    ],
)
def test_what_is_no_outline_is_named(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "a.geojson").write_text(text)
    with pytest.raises(CaseError, match=told):
        read_outlines("case", tmp_path / "a.geojson", scale=(10.0, 10.0), size=(1000, 800))


def test_tiles_have_the_size_that_was_asked_for_and_hold_tissue(slide_file: Path) -> None:
    with open_slide("case", slide_file) as slide:
        tissue = find_tissue(slide, FINE)
        grid = lay_tiles(slide, tissue, TileSettings(mpp=1.0, size=64, tissue=0.5))
        assert grid.size_level0 == (128, 128)
        assert grid.read(slide, 0).shape == (64, 64, 3)
        assert (grid.coords % 128 == 0).all()
        fine = np.kron(tissue.mask, np.ones((8, 8), bool))
        for (x, y), share in zip(grid.coords, grid.tissue, strict=True):
            assert share >= 0.5
            assert fine[y : y + 128, x : x + 128].mean() == pytest.approx(share, abs=0.02)
        everything = lay_tiles(slide, whole_slide(slide), TileSettings(mpp=1.0, size=64))
        assert len(everything) == (2048 // 128) * (1536 // 128)


def test_overlap_moves_the_grid(slide_file: Path) -> None:
    with open_slide("case", slide_file) as slide:
        grid = lay_tiles(slide, find_tissue(slide, FINE), TileSettings(mpp=0.5, size=100, overlap=50))
    assert (grid.coords % 50 == 0).all()
    assert (grid.coords % 100 == 50).any()


def test_a_whole_image_is_covered_to_its_edges() -> None:
    slide = in_memory(np.full((500, 700, 3), 200, np.uint8), mpp=None)
    grid = lay_tiles(slide, whole_slide(slide), TileSettings(mpp="native", size=224))
    assert grid.mpp is None
    assert (grid.coords.min(0).tolist(), grid.coords.max(0).tolist()) == ([0, 0], [700 - 224, 500 - 224])


@pytest.mark.parametrize(
    ("mpp", "tiles", "told"),
    [
        pytest.param(0.5, TileSettings(mpp=0.25), "detail that is not there", id="finer than the slide"),
        pytest.param(None, TileSettings(mpp=0.25), "mpp=", id="unknown size of pixels"),
        pytest.param(0.5, TileSettings(mpp=1.0, size=512), "one tile takes 1024", id="larger than the slide"),
        pytest.param(0.5, TileSettings(size=64, overlap=64), "overlap 64", id="overlap"),
    ],
)
def test_tiles_that_cannot_be_are_refused(mpp: float | None, tiles: TileSettings, told: str) -> None:
    slide = in_memory(np.full((500, 700, 3), 200, np.uint8), mpp)
    with pytest.raises(CaseError) as refused:
        lay_tiles(slide, whole_slide(slide), tiles)
    assert told in str(refused.value)
