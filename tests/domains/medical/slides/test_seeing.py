"""Attention is drawn where the tiles lie, red where there is most of it; a model of bags takes slides as well."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from domains.medical.bags.building import build_network
from domains.medical.bags.model_settings import Abmil
from domains.medical.bags.plan import BagPlan, origin_of
from domains.medical.bags.predictor import BagPredictor
from domains.medical.bags.reading import BagReader
from domains.medical.bags.settings import FeatureSettings
from domains.medical.bags.target import Target
from domains.medical.slides.bagfiles import Bag, write_bag
from domains.medical.slides.bags_of_slides import SlideBags
from domains.medical.slides.encoder_settings import EfficientNetLite0
from domains.medical.slides.encoders import load_encoder
from domains.medical.slides.opening import open_slide
from domains.medical.slides.pictures import COLOURS, heatmap, ranks
from domains.medical.slides.seeing import tile_size_of, write_attention
from domains.medical.slides.slide_settings import SlideSettings
from domains.medical.slides.tissue_settings import TileSettings, TissueSettings
from pipelines.errors import CaseError, ConfigurationError
from pipelines.task import Item

COORDS = np.array([[0, 0], [512, 0], [0, 512]], np.int64)
WEIGHTS = np.array([0.7, 0.2, 0.1])
SETTINGS = SlideSettings(tissue=TissueSettings(mpp=4), tiles=TileSettings(mpp=2.0, size=64, tissue=0.9))


def test_ranks_spread_over_the_scale() -> None:
    np.testing.assert_allclose(ranks(np.array([1e-9, 0.5, 1e-5])), [0, 1, 0.5])
    np.testing.assert_allclose(ranks(np.array([0.2, 0.2, 0.6])), [0.25, 0.25, 1])
    np.testing.assert_allclose(ranks(np.array([0.2])), [1])


def test_the_heatmap_is_red_where_attention_is(slide_file: Path) -> None:
    with open_slide("case", slide_file) as slide:
        shown = heatmap(slide, COORDS, (512, 512), WEIGHTS, longest=1024, opacity=1.0)
        plain = slide.thumbnail(1024)
    assert shown.shape == (768 + 44, 1024, 3)
    np.testing.assert_array_equal(shown[100, 100], COLOURS[-1])
    np.testing.assert_array_equal(shown[400, 100], COLOURS[0])
    np.testing.assert_array_equal(shown[:768, 520:], plain[:, 520:])


def test_attention_is_written_for_people_and_for_qupath(slide_file: Path, tmp_path: Path) -> None:
    with open_slide("case", slide_file) as slide:
        files = write_attention("case", slide, COORDS, (512, 512), WEIGHTS, tmp_path)
    assert [path.name for path in files] == ["case.heatmap.png", "case.attention.geojson", "case.tiles.png"]
    held = json.loads(files[1].read_text())["features"]
    assert [one["properties"]["measurements"]["Attention"] for one in held] == [0.7, 0.2, 0.1]
    assert held[0]["geometry"]["coordinates"][0][2] == [512, 512]
    assert held[0]["properties"]["classification"]["color"] == COLOURS[-1].tolist()
    assert cv2.imread(str(files[2])) is not None


def test_a_bag_that_does_not_know_its_tiles_is_named() -> None:
    with pytest.raises(CaseError, match="how large its tiles"):
        tile_size_of("case", {"mpp": 0.5})
    assert tile_size_of("case", {"patch_size_level0": 512}) == (512, 512)


def _predictor(plan: BagPlan) -> BagPredictor:
    torch.manual_seed(0)
    network = build_network(Abmil(hidden=(16,), attention_hidden=8), features=1280, classes=2)
    return BagPredictor(network, plan, BagReader(FeatureSettings()), device=torch.device("cpu"))


def _plan(bag: Bag, **changes: str) -> BagPlan:
    return BagPlan(Target(("benign", "malignant")), 1280, {**origin_of(bag), **changes}, (1, 1), 2)


@pytest.fixture(scope="module")
def bag(slide_file: Path) -> Bag:
    return SlideBags(SETTINGS, load_encoder(EfficientNetLite0())).read(Item("case", (slide_file,), "slide"))


def test_a_model_of_bags_predicts_the_slide_as_its_bag(slide_file: Path, bag: Bag, tmp_path: Path) -> None:
    write_bag(tmp_path / "bag.h5", bag)
    predictor = _predictor(_plan(bag))
    found = {item.kind: item for item in predictor.discover([slide_file, tmp_path / "bag.h5"])}
    assert found.keys() == {"slide", "bag"}
    results = {kind: predictor.infer(predictor.read(item)) for kind, item in found.items()}
    np.testing.assert_allclose(results["slide"].probabilities, results["bag"].probabilities, atol=1e-5)
    np.testing.assert_allclose(results["slide"].attention, results["bag"].attention, atol=1e-5)
    written = predictor.write(found["slide"], results["slide"], tmp_path / "out")
    endings = {path.name.split(".", 1)[1] for path in written.files}
    assert {"heatmap.png", "attention.geojson", "tiles.png"} <= {end.split("CENTIMETER.")[-1] for end in endings}


def test_a_model_of_bags_from_elsewhere_says_why_it_takes_no_slide(slide_file: Path, bag: Bag) -> None:
    predictor = _predictor(_plan(Bag(bag.features)))
    (item,) = predictor.discover([slide_file])
    assert "do not say how they were made" in item.problem


def test_other_weights_of_the_encoder_are_refused(slide_file: Path, bag: Bag) -> None:
    predictor = _predictor(_plan(bag, weights="0123456789abcdef"))
    (item,) = predictor.discover([slide_file])
    with pytest.raises(ConfigurationError, match="0123456789abcdef"):
        predictor.read(item)


def test_a_bag_of_other_tiles_is_refused(bag: Bag, tmp_path: Path) -> None:
    other = {**bag.attributes, "extraction": {**bag.attributes["extraction"], "tiles": {"mpp": 0.25, "size": 64}}}
    write_bag(tmp_path / "bag.h5", Bag(bag.features, bag.coords, other))
    predictor = _predictor(_plan(bag))
    (item,) = predictor.discover([tmp_path / "bag.h5"])
    with pytest.raises(CaseError, match=r"tiles of 64 pixels, 0.25 µm"):
        predictor.read(item)
