"""Slides as inputs of a model of bags: made into bags as those of training were, with attention drawn over them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from domains.medical.bags.discovery import discover
from domains.medical.bags.settings import SlideInference
from domains.medical.scans.item_names import unique_items
from domains.medical.slides.bagfiles import Bag
from domains.medical.slides.discovery import discover_slides, with_outlines
from domains.medical.slides.slide_settings import SlideSettings
from pipelines.errors import ConfigurationError
from pipelines.task import Item

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from domains.medical.slides.bags_of_slides import SlideBags

__all__ = ["SlideInputs"]


class SlideInputs:
    """Finds slides beside bags, makes their bags, and draws what a model looked at.

    Args:
        origin: What made the bags of training, as they say it; without `extraction`, slides are refused by name.
        settings: What the model cannot know: sizes of pixels, outlines, the encoder's file.
        device: Where the encoder runs.
    """

    def __init__(self, origin: Mapping[str, Any], settings: SlideInference, *, device: str) -> None:
        self._origin = origin
        self._settings = settings
        self._device = device
        self._lock = threading.Lock()
        self._maker: SlideBags | None = None

    def discover(self, inputs: Sequence[Path], *, pictures: bool) -> list[Item]:
        """Bags, and slides with the outlines of their tissue.

        Args:
            inputs: Files, folders and globs.
            pictures: Whether the model cuts pictures itself; else they are slides like others.
        """
        bags = discover(inputs, pictures=pictures)
        if not pictures:
            bags = [item for item in bags if item.kind != "image"]
        slides = [self._allowed(item) for item in discover_slides(inputs, pictures=not pictures)]
        good = {path for item in bags if not item.problem for path in item.paths}
        taken = {path for item in slides if not set(item.paths) & good for path in item.paths}
        found = [item for item in bags if not (item.problem and set(item.paths) & taken)]
        found += with_outlines([i for i in slides if not set(i.paths) & good], self._settings.outlines)
        return unique_items(sorted(found, key=lambda item: (item.item_id, str(item.paths))))

    def read(self, item: Item) -> Bag:
        """The bag of a slide. Raises `CaseError`, and `ConfigurationError` where the encoder cannot be had."""
        return self._loaded().read(item)

    def draw(
        self, item: Item, coords: NDArray[np.int64], attributes: Mapping[str, Any], weights: Any, folder: Path
    ) -> list[Path]:
        """Writes heatmap, GeoJSON and tiles of a slide."""
        from domains.medical.slides.seeing import tile_size_of, write_attention

        size = tile_size_of(item.item_id, attributes)
        with self._loaded().open(item) as slide:
            return write_attention(item.item_id, slide, coords, size, weights, folder)

    def _allowed(self, item: Item) -> Item:
        if item.problem or self._origin.get("extraction"):
            return item
        reason = "a slide; the model was trained on bags that do not say how they were made. Give it bags"
        return Item(item.item_id, item.paths, item.kind, item.detail, reason)

    def _loaded(self) -> SlideBags:
        """Loads the encoder, once. Raises `ConfigurationError` where it is not the one of training."""
        with self._lock:
            if self._maker is None:
                self._maker = self._load()
            return self._maker

    def _load(self) -> SlideBags:
        from domains.medical.slides.bags_of_slides import SlideBags
        from domains.medical.slides.encoders import load_encoder

        described = dict(self._origin["extraction"])
        file = self._settings.encoder_file
        if file is not None:
            key = "file" if described["encoder"]["name"] == "torchscript" else "weights"
            described["encoder"] = {**described["encoder"], key: str(file)}
        chosen = self._settings.model_dump(exclude={"encoder_file"}, exclude_none=True)
        try:
            settings = SlideSettings.from_description(described, **chosen)
        except ValidationError as error:
            name, told = described["encoder"].get("name"), error.errors()[0]["msg"]
            raise ConfigurationError(
                f"the encoder {name} of the model cannot be had: {told}",
                hint="Name its file: --set infer.slides.encoder_file=FILE.",
            ) from error
        encoder = load_encoder(settings.encoder, device=self._device, precision=settings.precision)
        if encoder.digest != self._origin.get("weights", encoder.digest):
            raise ConfigurationError(
                f"the encoder {encoder.name} has the weights {encoder.digest}; the model was trained on features of "
                f"{self._origin['weights']}",
                hint="Name the file of those weights: --set infer.slides.encoder_file=FILE.",
            )
        return SlideBags(settings, encoder)
