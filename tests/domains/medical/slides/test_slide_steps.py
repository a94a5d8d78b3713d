"""From files to bags: threads give what a plain loop gives, every slide ends with a result or a reason."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from domains.medical.slides.bagfiles import read_bag
from domains.medical.slides.bags_of_slides import SlideBags
from domains.medical.slides.discovery import discover_slides, with_outlines
from domains.medical.slides.encoder_settings import EfficientNetLite0
from domains.medical.slides.encoders import Encoder, load_encoder
from domains.medical.slides.extraction import extract_features
from domains.medical.slides.slide_settings import SlideSettings
from domains.medical.slides.tissue_settings import TileSettings, TissueSettings
from pipelines.errors import CaseError
from pipelines.task import Item
from workflows.main import run

SETTINGS = SlideSettings(tissue=TissueSettings(mpp=4), tiles=TileSettings(mpp=1.0, size=64, tissue=0.9), batch_size=7)


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(EfficientNetLite0())


def test_features_are_those_of_a_plain_loop(slide_file: Path, encoder: Encoder) -> None:
    item = Item("case", (slide_file,), "slide")
    maker = SlideBags(SETTINGS, encoder)
    bag = maker.read(item)
    with maker.open(item) as slide:
        grid = maker.tiles(slide, maker.tissue(item, slide))
        plain = np.concatenate([encoder(grid.read(slide, index)[None]) for index in range(len(grid))])
    np.testing.assert_allclose(bag.features, plain, atol=1e-4)
    np.testing.assert_array_equal(bag.coords, grid.coords)
    assert bag.attributes["patch_size_level0"] == 128
    assert SlideSettings.from_description(bag.attributes["extraction"]).tiles == SETTINGS.tiles


def test_a_tile_that_cannot_be_read_ends_the_slide(slide_file: Path, encoder: Encoder) -> None:
    maker = SlideBags(SETTINGS, encoder)
    item = Item("case", (slide_file,), "slide")
    with maker.open(item) as slide:
        grid = maker.tiles(slide, maker.tissue(item, slide))

        def broken(*_: object, **__: object) -> None:
            raise CaseError("case", "damaged slide")

        slide.scaled = broken  # type: ignore[assignment,method-assign]
        with pytest.raises(CaseError, match="damaged slide"):
            extract_features(slide, grid, encoder)


@pytest.fixture
def slides(slide_file: Path, tmp_path: Path) -> Path:
    """A slide, glass without tissue, fluorescence, a text that is called a slide."""
    import tifffile

    folder = tmp_path / "slides"
    folder.mkdir()
    shutil.copy(slide_file, folder / "good.tif")
    about = {"photometric": "rgb", "resolution": (1e4, 1e4), "resolutionunit": "CENTIMETER"}
    glass = np.random.default_rng(0).normal(240, 3, (600, 600, 3)).astype(np.uint8)
    tifffile.imwrite(folder / "glass.tif", glass, **about)
    dark = np.zeros((600, 600, 3), np.uint8)
    tifffile.imwrite(folder / "dapi.tif", cv2.circle(dark, (300, 300), 90, (0, 0, 255), -1), **about)
    (folder / "broken.svs").write_text("no slide")
    return folder


def test_one_command_goes_from_slides_to_bags(slides: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    command = ["slides", "features", str(slides), "--out", str(out), "--tile-mpp", "1", "--tile-size", "64"]
    command += ["--min-tissue", "0.9", "--set", "tissue.mpp=4", "--device", "cpu"]
    assert run(command) == 3
    ledger = pd.read_csv(out / "ledger.csv").set_index("item_id")
    assert ledger["outcome"].to_dict() == {"good": "ok", "glass": "failed", "dapi": "failed", "broken": "failed"}
    assert "no tissue was found" in ledger.loc["glass", "reason"]
    assert "fluorescence" in ledger.loc["dapi", "reason"]
    assert "not a slide" in ledger.loc["broken", "reason"]
    assert "no tissue was found" in capfd.readouterr().out
    bag = read_bag("good", out / "good" / "good.h5")
    facts = json.loads((out / "good" / "good.json").read_text())
    assert facts["tiles"] == len(bag)
    assert facts["mpp"] == [0.5, 0.5]
    held = json.loads((out / "good" / "good.tissue.geojson").read_text())
    assert len(held["features"]) == 2
    picture = cv2.imread(str(out / "good" / "good.tissue.png"))
    assert picture.shape == (900, 1200, 3)


def test_a_corrected_outline_takes_the_place_of_what_is_found(slide_file: Path, tmp_path: Path) -> None:
    ring = [[512, 512], [1024, 512], [1024, 1024], [512, 1024], [512, 512]]
    (tmp_path / "case.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    (item,) = with_outlines([Item("case", (slide_file,), "slide")], tmp_path)
    maker = SlideBags(SETTINGS)
    with maker.open(item) as slide:
        tissue = maker.tissue(item, slide)
        grid = maker.tiles(slide, tissue)
    assert tissue.mask.sum() == 64 * 64
    assert len(grid) == 16
    assert (grid.coords.min(0).tolist(), grid.coords.max(0).tolist()) == ([512, 512], [896, 896])


def test_tiles_are_written_for_qupath_and_as_a_table(slides: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(["slides", "tiles", str(slides / "good.tif"), "--out", str(out), "--tile-mpp", "2"]) == 0
    table = pd.read_csv(out / "good" / "good.tiles.csv")
    held = json.loads((out / "good" / "good.tiles.geojson").read_text())
    assert len(table) == len(held["features"]) > 0
    assert set(table["width"]) == {896}
    assert held["features"][0]["properties"]["objectType"] == "detection"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--tile-mpp", "fine"], "--tile-mpp fine"),
        (["--encoder", "resnet"], "no encoder 'resnet'"),
        (["--set", "tissue.lowest=2"], "tissue.lowest"),
        (["--set", "tissue.colour=2"], "tissue.colour"),
        (["--encoder", "missing.pt"], "there is no encoder file"),
    ],
)
def test_wrong_arguments_are_usage_errors(
    slides: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], arguments: list[str], told: str
) -> None:
    assert run(["slides", "features", str(slides), "--out", str(tmp_path / "out"), *arguments]) == 2
    assert told in capfd.readouterr().err.replace("\n", " ")


def test_pictures_are_slides_only_where_nothing_else_is(slides: Path, tmp_path: Path) -> None:
    (slides / "thumbnails").mkdir()
    cv2.imwrite(str(slides / "thumbnails" / "good.png"), np.zeros((8, 8, 3), np.uint8))
    assert [item.item_id for item in discover_slides([slides])] == ["broken", "dapi", "glass", "good"]
    assert [item.item_id for item in discover_slides([slides / "thumbnails"])] == ["good"]
    named = discover_slides([slides / "thumbnails" / "good.png", tmp_path / "absent.svs"])
    assert [(item.item_id, item.problem) for item in named] == [("absent", "file not found"), ("good", "")]


def test_outlines_are_found_by_the_name_of_the_slide(slides: Path, tmp_path: Path) -> None:
    items = discover_slides([slides])
    (tmp_path / "good.geojson").write_text("{}")
    paths = {item.item_id: item.paths for item in with_outlines(items, tmp_path)}
    assert [path.name for path in paths["good"]] == ["good.tif", "good.geojson"]
    assert [path.name for path in paths["glass"]] == ["glass.tif"]
