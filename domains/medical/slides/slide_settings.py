"""How a slide becomes a bag: everything that features depend on, and how the work is done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from domains.medical.slides.encoder_settings import EfficientNetLite0, EncoderSettings
from domains.medical.slides.tissue_settings import TileSettings, TissueSettings
from pipelines.config.paths import FilePath
from pipelines.config.section import Section

__all__ = ["SlideSettings"]

Micrometres = Annotated[float, Field(gt=0)]


class SlideSettings(Section):
    """From a slide file to a bag."""

    mpp: Micrometres | tuple[Micrometres, Micrometres] | None = None
    """Size of a pixel of the full resolution in µm (or along x and y), where files do not say it; null takes what they
    say, and refuses those that say nothing."""
    tissue: TissueSettings = TissueSettings()
    """Where tissue is looked for."""
    outlines: FilePath | None = None
    """Folder of GeoJSON outlines, `NAME.geojson` for the slide `NAME`; they take the place of the tissue that is found.
    """
    tiles: TileSettings = TileSettings()
    """Tiles over the tissue."""
    encoder: EncoderSettings = EfficientNetLite0()
    """The network that turns tiles into features, by `name`."""
    precision: Literal["float32", "bfloat16", "float16"] = "float32"
    """Numbers that the encoder computes with."""
    batch_size: int = Field(default=32, ge=1, le=4096)
    """Tiles through the encoder at once."""
    readers: int = Field(default=2, ge=1, le=64)
    """Threads that read tiles while others are encoded."""

    def describe(self) -> dict[str, Any]:
        """What features depend on, as plain values: kept in bags, and in models that are trained on them."""
        return {
            "tissue": self.tissue.model_dump(mode="json"),
            "tiles": self.tiles.model_dump(mode="json"),
            "encoder": self.encoder.model_dump(mode="json", exclude={"weights", "file", "download"}),
            "precision": self.precision,
        }

    @classmethod
    def from_description(cls, described: Mapping[str, Any], **changes: Any) -> SlideSettings:
        """The inverse of `describe`; `changes` are settings that it leaves out. Raises `ValidationError`."""
        return cls.model_validate({**described, **changes})
