"""The way of one slide: file → tissue → tiles → features → bag.

maker = SlideBags(SlideSettings(), load_encoder(EfficientNetLite0()))
with maker.open(item) as slide:
    tissue = maker.tissue(item, slide)
    grid = maker.tiles(slide, tissue)
    bag = maker.bag(slide, grid)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from domains.medical.slides.bagfiles import Bag
from domains.medical.slides.opening import open_slide
from domains.medical.slides.outlines import read_outlines
from domains.medical.slides.slide import Slide
from domains.medical.slides.slide_settings import SlideSettings
from domains.medical.slides.tiles import TileGrid, lay_tiles
from domains.medical.slides.tissue import TissueMask, find_tissue
from pipelines.errors import CaseError
from pipelines.task import Item

if TYPE_CHECKING:
    from domains.medical.slides.encoders import Encoder

__all__ = ["SlideBags"]

_OUTLINE_PIXELS = 2048
"""Longer side of a mask from outlines, where the slide does not say how large its pixels are."""


class SlideBags:
    """Makes bags of slides.

    Args:
        settings: Tissue, tiles and how the work is done.
        encoder: The encoder; None where only tissue and tiles are wanted.
    """

    def __init__(self, settings: SlideSettings, encoder: Encoder | None = None) -> None:
        self.settings = settings
        self.encoder = encoder

    def open(self, item: Item) -> Slide:
        """Opens the slide of an item. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        files = [path for path in item.paths if path.suffix.lower() != ".geojson"]
        return open_slide(item.item_id, files, mpp=self.settings.mpp)

    def tissue(self, item: Item, slide: Slide) -> TissueMask:
        """Tissue as it was outlined, or else as it is found.

        Raises:
            CaseError: There is none, or it cannot be looked for.
        """
        outlines = next((path for path in item.paths if path.suffix.lower() == ".geojson"), None)
        if outlines is not None:
            size = slide.width, slide.height
            scale = slide.scale_of(self.settings.tissue.mpp) if slide.has_mpp else (max(size) / _OUTLINE_PIXELS,) * 2
            return read_outlines(item.item_id, outlines, scale=(max(scale[0], 1.0), max(scale[1], 1.0)), size=size)
        tissue = find_tissue(slide, self.settings.tissue)
        if tissue.is_empty:
            raise CaseError(
                item.item_id,
                "no tissue was found",
                hint="Look at the slide; an outline drawn by hand (GeoJSON) takes the place of what is found.",
            )
        return tissue

    def tiles(self, slide: Slide, tissue: TissueMask) -> TileGrid:
        """Tiles over the tissue. Raises `CaseError` where none holds enough of it."""
        grid = lay_tiles(slide, tissue, self.settings.tiles)
        if not len(grid):
            raise CaseError(
                slide.case_id,
                f"no tile of {self.settings.tiles.size} pixels holds {self.settings.tiles.tissue:.0%} of tissue",
                hint="Take smaller or finer tiles, or ask for a smaller share of tissue.",
            )
        return grid

    def bag(
        self, slide: Slide, grid: TileGrid, *, report: Callable[[int, int], None] = lambda done, total: None
    ) -> Bag:
        """The bag of a slide's tiles. Raises `CaseError` where a tile cannot be read."""
        from domains.medical.slides.extraction import extract_features

        if self.encoder is None:
            raise ValueError("no encoder was given: SlideBags(settings, load_encoder(settings.encoder))")
        features = extract_features(
            slide,
            grid,
            self.encoder,
            batch_size=self.settings.batch_size,
            readers=self.settings.readers,
            report=report,
        )
        about = grid.attributes(slide) | {
            "encoder": self.encoder.describe(),
            "extraction": self.settings.describe(),
            "reader": slide.facts.reader,
        }
        return Bag(features, grid.coords, about)

    def read(self, item: Item) -> Bag:
        """The bag of an item, from its file. Raises `CaseError`."""
        with self.open(item) as slide:
            return self.bag(slide, self.tiles(slide, self.tissue(item, slide)))
