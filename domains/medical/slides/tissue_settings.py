"""Where tissue is looked for, and how tiles are laid over it."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.config.section import Section

__all__ = ["TileSettings", "TissueSettings"]

Micrometres = Annotated[float, Field(gt=0)]
Area = Annotated[float, Field(ge=0)]


class TissueSettings(Section):
    """How tissue is told from glass."""

    method: Literal["saturation", "whole"] = "saturation"
    """`saturation` takes what is coloured, by Otsu's threshold; `whole` takes everything, as for cores cut to size."""
    mpp: Micrometres = 8.0
    """Resolution at which tissue is looked for, in µm per pixel."""
    lowest: float = Field(default=0.05, ge=0, le=1)
    """Saturation below which nothing is tissue, whatever Otsu's threshold is: a slide without tissue has none."""
    highest: float = Field(default=0.15, ge=0, le=1)
    """Saturation above which everything is tissue: on a full slide, Otsu would part pale tissue from dark."""
    close: Area = 40.0
    """Gaps up to this width are closed, in µm."""
    open: Area = 16.0
    """Strands and specks up to this width are left out, in µm."""
    hole: Area = 10_000.0
    """Holes up to this area are filled, in µm²."""
    piece: Area = 25_000.0
    """Pieces below this area are left out, in µm² (two tiles of 112 µm)."""
    ink: bool = True
    """Whether green marker ink is left out. Say false for stains that are green, such as Masson-Goldner."""


class TileSettings(Section):
    """Tiles on a grid over the tissue."""

    mpp: Micrometres | Literal["native"] = 0.5
    """Resolution of the tiles, in µm per pixel; `native` takes the pixels of the full resolution, whatever their
    size."""
    size: int = Field(default=224, ge=16, le=4096)
    """Side of a tile, in pixels."""
    overlap: int = Field(default=0, ge=0)
    """Pixels that neighbours share."""
    tissue: float = Field(default=0.25, ge=0, le=1)
    """Share of a tile that must be tissue."""
