"""Steps on the way from slides to bags, as batches with a ledger: tissue, tiles, features."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from domains.medical.scans.pictures import write_picture
from domains.medical.slides.bags_of_slides import SlideBags
from domains.medical.slides.discovery import discover_slides, with_outlines
from domains.medical.slides.outlines import feature, tissue_features, write_geojson
from domains.medical.slides.pictures import colour_of, outline_picture
from domains.medical.slides.slide import Slide
from domains.medical.slides.slide_settings import SlideSettings
from domains.medical.slides.tiles import TileGrid
from domains.medical.slides.tissue import TissueMask
from pipelines.inference.source import OpenedPredictor, digest_of
from pipelines.task import Item, Predictor, Written

if TYPE_CHECKING:
    from domains.medical.slides.bagfiles import Bag

__all__ = ["LoadedSlide", "SlideStep", "SlideStepSource", "Step", "facts_of"]

Step = Literal["tissue", "tiles", "features"]


@dataclass(frozen=True)
class LoadedSlide:
    """A slide with its tissue; `write` closes it."""

    slide: Slide
    tissue: TissueMask
    grid: TileGrid | None = None
    bag: Bag | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


class SlideStep(Predictor[LoadedSlide, LoadedSlide]):
    """Goes as far as a step with each slide.

    Args:
        step: `tissue`, `tiles` or `features`.
        maker: Settings and, for features, the encoder.
    """

    def __init__(self, step: Step, maker: SlideBags) -> None:
        self._step = step
        self._maker = maker

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The slides in files, folders and globs, with their outlines where there are any."""
        return with_outlines(discover_slides(inputs), self._maker.settings.outlines)

    def read(self, item: Item) -> LoadedSlide:
        """Opens a slide, finds its tissue and lays tiles over it. Raises `CaseError`, also where there is none."""
        started = time.perf_counter()
        slide = self._maker.open(item)
        try:
            tissue = self._maker.tissue(item, slide)
            grid = None if self._step == "tissue" else self._maker.tiles(slide, tissue)
        except BaseException:
            slide.close()
            raise
        return LoadedSlide(slide, tissue, grid, seconds={"tissue": time.perf_counter() - started})

    def infer(self, loaded: LoadedSlide) -> LoadedSlide:
        """Encodes the tiles, where that is the step."""
        if self._step != "features" or loaded.grid is None:
            return loaded
        started = time.perf_counter()
        try:
            bag = self._maker.bag(loaded.slide, loaded.grid)
        except BaseException:
            loaded.slide.close()
            raise
        seconds = {**loaded.seconds, "encode": time.perf_counter() - started}
        return LoadedSlide(loaded.slide, loaded.tissue, loaded.grid, bag, seconds)

    def write(self, item: Item, result: LoadedSlide, folder: Path) -> Written:
        """Writes the outline of the tissue (GeoJSON, PNG), the tiles or the bag, and a JSON of what was found."""
        with result.slide as slide:
            folder.mkdir(parents=True, exist_ok=True)
            files = [folder / f"{item.item_id}.tissue.geojson", folder / f"{item.item_id}.tissue.png"]
            write_geojson(files[0], tissue_features(result.tissue))
            write_picture(files[1], outline_picture(slide, result.tissue, result.grid))
            if result.bag is not None:
                from domains.medical.slides.bagfiles import write_bag

                files.append(folder / f"{item.item_id}.h5")
                write_bag(files[-1], result.bag)
            elif result.grid is not None:
                files += _write_tiles(folder / item.item_id, result.grid)
            summary = facts_of(slide, result)
            files.append(folder / f"{item.item_id}.json")
            files[-1].write_text(json.dumps({"item": item.item_id, **summary}, indent=2) + "\n", encoding="utf-8")
        return Written(tuple(files), summary)


def facts_of(slide: Slide, result: LoadedSlide) -> dict[str, Any]:
    """Size, resolution, tissue and tiles of a slide: plain values."""
    told: dict[str, Any] = {
        "reader": slide.facts.reader,
        "width": slide.width,
        "height": slide.height,
        "levels": [round(level.downsample, 3) for level in slide.levels],
        "mpp": [round(one, 5) for one in slide.mpp] if slide.has_mpp else None,
        "magnification": slide.facts.magnification,
        "tissue_share": round(result.tissue.share, 5),
    }
    if slide.has_mpp:
        area = slide.width * slide.mpp[0] * slide.height * slide.mpp[1] / 1e6
        told["tissue_mm2"] = round(result.tissue.share * area, 4)
    if result.grid is not None:
        told["tiles"] = len(result.grid)
    if result.bag is not None:
        told["features"] = result.bag.features.shape[1]
        told["tiles_per_second"] = round(len(result.bag) / max(result.seconds["encode"], 1e-9), 2)
    return told | {"seconds": {name: round(value, 4) for name, value in result.seconds.items()}}


def _write_tiles(stem: Path, grid: TileGrid) -> list[Path]:
    """`ITEM.tiles.csv`, and `ITEM.tiles.geojson` whose tiles QuPath shows as detections."""
    table, shapes = stem.with_name(f"{stem.name}.tiles.csv"), stem.with_name(f"{stem.name}.tiles.geojson")
    width, height = grid.size_level0
    with table.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["tile", "x", "y", "width", "height", "tissue"])
        for number, ((x, y), share) in enumerate(zip(grid.coords.tolist(), grid.tissue, strict=True)):
            writer.writerow([number, x, y, width, height, f"{share:.4f}"])
    colour = colour_of(np.array([0.15]))[0].tolist()
    features = [
        feature(
            [[[x, y], [x + width, y], [x + width, y + height], [x, y + height], [x, y]]],
            name=f"Tile {number}",
            classification="Tile",
            colour=colour,
            measurements={"Tissue share": round(float(share), 4)},
            kind="detection",
        )
        for number, ((x, y), share) in enumerate(zip(grid.coords.tolist(), grid.tissue, strict=True))
    ]
    write_geojson(shapes, features)
    return [table, shapes]


@dataclass(frozen=True)
class SlideStepSource:
    """Gives workers a step.

    Attributes:
        step: How far to go.
        settings: Everything else.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
    """

    step: Step
    settings: SlideSettings
    device: str = "auto"

    @property
    def model_digest(self) -> str:
        """Changes with the step, the encoder and its weights."""
        if self.step != "features":
            return digest_of({"step": self.step})
        from domains.medical.slides.encoders import weights_digest

        encoder = self.settings.encoder
        return digest_of({"step": self.step, "encoder": encoder.name, "weights": weights_digest(encoder)})

    @property
    def settings_digest(self) -> str:
        """Changes with every setting that changes results."""
        relevant: dict[str, Any] = {**self.settings.describe(), "mpp": self.settings.mpp}
        if self.step != "features":
            del relevant["encoder"], relevant["precision"]
        if self.step == "tissue":
            del relevant["tiles"]
        return digest_of(relevant)

    def open(self, *, index: int, workers: int) -> OpenedPredictor:
        """Loads the encoder, where there is one to load. Raises `PulvinarError`."""
        if self.step != "features":
            return OpenedPredictor(SlideStep(self.step, SlideBags(self.settings)), "cpu", 1)
        from pipelines.inference.machine import prepare_worker

        device, devices = prepare_worker(self.device, index=index, workers=workers)
        from domains.medical.slides.encoders import load_encoder

        encoder = load_encoder(self.settings.encoder, device=device, precision=self.settings.precision)
        return OpenedPredictor(SlideStep(self.step, SlideBags(self.settings, encoder)), device, devices)
