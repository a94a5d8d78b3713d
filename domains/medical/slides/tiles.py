"""Tiles on a grid over the tissue, at a requested resolution."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.images import even_positions
from domains.medical.slides.slide import Slide
from domains.medical.slides.tissue import TissueMask
from domains.medical.slides.tissue_settings import TileSettings
from pipelines.errors import CaseError

__all__ = ["TileGrid", "lay_tiles"]

_FINER = 0.9
"""Tiles may be this much finer than the slide; beyond that, detail would be invented."""


@dataclass(frozen=True)
class TileGrid:
    """Tiles of one slide.

    Attributes:
        coords: int64 `(N, 2)`, x and y of the upper left corners in pixels of level 0, row after row.
        size: Side of a tile in pixels, as it is encoded.
        scale: Pixels of level 0 along x and y that one pixel of a tile covers.
        mpp: Resolution in µm per pixel; None for native tiles of a slide that does not say it.
        overlap: Pixels of a tile that neighbours share.
        tissue: float32 `(N,)`, the share of each tile that is tissue.
    """

    coords: NDArray[np.int64]
    size: int
    scale: tuple[float, float]
    mpp: float | None
    overlap: int
    tissue: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.coords)

    @property
    def size_level0(self) -> tuple[int, int]:
        """Pixels of level 0 along x and y that a tile covers."""
        return round(self.size * self.scale[0]), round(self.size * self.scale[1])

    def read(self, slide: Slide, index: int) -> NDArray[np.uint8]:
        """A tile, uint8 `(size, size, 3)`."""
        x, y = (int(value) for value in self.coords[index])
        return slide.scaled(x, y, self.size, self.size, scale=self.scale)

    def attributes(self, slide: Slide) -> dict[str, Any]:
        """What a bag says of its tiles, in the names that TRIDENT gives them, and the resolution."""
        across, down = self.size_level0
        told: dict[str, Any] = {
            "name": slide.case_id,
            "patch_size": self.size,
            "patch_size_level0": across,
            "overlap": self.overlap,
            "level0_width": slide.width,
            "level0_height": slide.height,
        }
        if down != across:
            told["patch_height_level0"] = down
        if slide.has_mpp:
            told |= {"level0_mpp_x": slide.mpp[0], "level0_mpp_y": slide.mpp[1]}
        if slide.facts.magnification:
            told["level0_magnification"] = slide.facts.magnification
        return told | ({"mpp": self.mpp} if self.mpp else {})


def lay_tiles(slide: Slide, tissue: TissueMask, settings: TileSettings) -> TileGrid:
    """The tiles that hold enough tissue; none where there is none.

    The grid begins at the slide's upper left corner and keeps whole tiles. Where the mask is the slide as a whole,
    tiles are moved together so that they reach every edge.

    Raises:
        CaseError: The slide is coarser than the tiles, smaller than one, or does not say its resolution.
    """
    if settings.overlap >= settings.size:
        raise CaseError(slide.case_id, f"overlap {settings.overlap} is not below the tile's {settings.size} pixels")
    scale, mpp = _scale(slide, settings)
    across, down = round(settings.size * scale[0]), round(settings.size * scale[1])
    if across > slide.width or down > slide.height:
        raise CaseError(
            slide.case_id,
            f"{slide.width} × {slide.height} pixels; one tile takes {across} × {down}",
            hint="Take smaller tiles, or a finer resolution.",
        )
    steps = [max(1, round((settings.size - settings.overlap) * one)) for one in scale]
    if tissue.mask.size == 1:
        columns, rows = even_positions(slide.width, across, steps[0]), even_positions(slide.height, down, steps[1])
    else:
        columns = list(range(0, slide.width - across + 1, steps[0]))
        rows = list(range(0, slide.height - down + 1, steps[1]))
    x, y = np.meshgrid(np.array(columns), np.array(rows))
    coords = np.stack([x.ravel(), y.ravel()], axis=1).astype(np.int64)  # (N, 2)
    shares = _shares(tissue, coords, (across, down))
    # A threshold of 0 still asks for some tissue.
    kept = shares >= max(settings.tissue, 1e-6)
    return TileGrid(coords[kept], settings.size, scale, mpp, settings.overlap, shares[kept].astype(np.float32))


def _scale(slide: Slide, settings: TileSettings) -> tuple[tuple[float, float], float | None]:
    if settings.mpp == "native":
        return (1.0, 1.0), float(np.mean(slide.mpp)) if slide.has_mpp else None
    scale = slide.scale_of(settings.mpp)
    if min(scale) < _FINER:
        raise CaseError(
            slide.case_id,
            f"{slide.mpp[0]:g} µm per pixel; tiles of {settings.mpp:g} µm would hold detail that is not there",
            hint=f"Ask for tiles of {max(slide.mpp):.3g} µm or coarser.",
        )
    return scale, settings.mpp


def _shares(tissue: TissueMask, coords: NDArray[np.int64], size: tuple[int, int]) -> NDArray[np.float64]:
    """The share of each tile that is tissue, from sums over the mask."""
    height, width = tissue.mask.shape
    sums = np.zeros((height + 1, width + 1))
    sums[1:, 1:] = tissue.mask.cumsum(0, dtype=np.float64).cumsum(1)
    left, right = (np.clip((coords[:, 0] + add) / tissue.scale[0], 0, width) for add in (0, size[0]))
    top, bottom = (np.clip((coords[:, 1] + add) / tissue.scale[1], 0, height) for add in (0, size[1]))
    inside = _at(sums, bottom, right) - _at(sums, top, right) - _at(sums, bottom, left) + _at(sums, top, left)
    whole = size[0] / tissue.scale[0] * size[1] / tissue.scale[1]
    shares: NDArray[np.float64] = inside / whole
    return shares


def _at(sums: NDArray[np.float64], y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sums up to points between pixels."""
    y0, x0 = np.minimum(y.astype(int), sums.shape[0] - 2), np.minimum(x.astype(int), sums.shape[1] - 2)
    v, u = y - y0, x - x0
    upper = sums[y0, x0] * (1 - u) + sums[y0, x0 + 1] * u
    lower = sums[y0 + 1, x0] * (1 - u) + sums[y0 + 1, x0 + 1] * u
    found: NDArray[np.float64] = upper * (1 - v) + lower * v
    return found
