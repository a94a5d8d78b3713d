"""Tissue on a brightfield slide: what is coloured, cleaned, with its small holes filled.

Otsu's threshold on saturation, as in Lu et al. 2021 (CLAM, doi:10.1038/s41551-020-00682-w), held between two bounds.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.slide import Slide
from domains.medical.slides.tissue_settings import TissueSettings
from pipelines.errors import CaseError

__all__ = ["TissueMask", "find_tissue", "whole_slide"]

_DARK = 96
"""Of 255. On a brightfield slide something is brighter than this in all colours: glass, or the gaps in tissue."""
_GREEN = (38, 90)
"""Hues (0 to 180) of green ink; no common stain but the green of Masson-Goldner has them."""
_INK_SATURATION = 60
_NEARLY_BLACK = 30
_MOST_PIXELS = 2**26
"""A mask of more would be of a wrong mpp: 13 cm of tissue at 8 µm."""


@dataclass(frozen=True)
class TissueMask:
    """Where tissue is.

    Attributes:
        mask: bool `(h, w)`.
        scale: Pixels of level 0 along x and y that one pixel of the mask covers.
    """

    mask: NDArray[np.bool_]
    scale: tuple[float, float]

    @property
    def share(self) -> float:
        """The share of the slide that is tissue."""
        return float(self.mask.mean())

    @property
    def is_empty(self) -> bool:
        """Whether there is none."""
        return not self.mask.any()


def find_tissue(slide: Slide, settings: TissueSettings) -> TissueMask:
    """Looks for tissue.

    Raises:
        CaseError: The slide is dark (fluorescence), or the size of its pixels is not known.
    """
    if settings.method == "whole":
        _refuse_dark(slide, slide.thumbnail(512))
        return whole_slide(slide)
    across, down = (max(1.0, one) for one in slide.scale_of(settings.mpp))
    if slide.width / across * slide.height / down > _MOST_PIXELS:
        raise CaseError(
            slide.case_id,
            f"{slide.width} × {slide.height} pixels of {slide.mpp[0]:g} µm make a slide of "
            f"{slide.width * slide.mpp[0] / 1e4:.0f} × {slide.height * slide.mpp[1] / 1e4:.0f} cm",
            hint="Correct the size of a pixel with mpp= (--mpp on the command line).",
        )
    colours = slide.overview((across, down))
    _refuse_dark(slide, colours)
    pixel = (across * slide.mpp[0], down * slide.mpp[1])
    return TissueMask(_clean(_coloured(colours, settings), settings, pixel), (across, down))


def whole_slide(slide: Slide) -> TissueMask:
    """The slide as a whole."""
    return TissueMask(np.ones((1, 1), np.bool_), (float(slide.width), float(slide.height)))


def _refuse_dark(slide: Slide, colours: NDArray[np.uint8]) -> None:
    if float(np.quantile(colours.min(axis=-1), 0.99)) < _DARK:
        raise CaseError(
            slide.case_id,
            "dark background: a fluorescence image, not a stained slide in bright light",
            hint="Tissue is found by its colour on bright glass; give an outline of the tissue (GeoJSON) instead.",
        )


def _coloured(colours: NDArray[np.uint8], settings: TissueSettings) -> NDArray[np.bool_]:
    """Pixels that are coloured, and neither ink nor black."""
    smooth = cv2.medianBlur(colours, 5) if min(colours.shape[:2]) > 5 else colours
    hue, saturation, value = cv2.split(cv2.cvtColor(smooth, cv2.COLOR_RGB2HSV))
    otsu, _ = cv2.threshold(saturation, 0, 255, cv2.THRESH_OTSU)
    threshold = min(max(otsu, settings.lowest * 255), settings.highest * 255)
    found: NDArray[np.bool_] = (saturation > threshold) & (value > _NEARLY_BLACK)
    if settings.ink:
        found &= ~((hue >= _GREEN[0]) & (hue <= _GREEN[1]) & (saturation > _INK_SATURATION))
    return found


def _clean(found: NDArray[np.bool_], settings: TissueSettings, pixel: tuple[float, float]) -> NDArray[np.bool_]:
    """Closed, opened, without small holes and small pieces; `pixel` is the size of a pixel in µm."""
    mask = found.astype(np.uint8)
    for operation, width in ((cv2.MORPH_CLOSE, settings.close), (cv2.MORPH_OPEN, settings.open)):
        size = [2 * round(width / side / 2) + 1 for side in pixel]
        if max(size) > 1:
            element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size)
            mask = cv2.morphologyEx(mask, operation, element).astype(np.uint8, copy=False)
    area = pixel[0] * pixel[1]
    mask[_small(1 - mask, settings.hole / area, connectivity=4)] = 1
    mask[_small(mask, settings.piece / area, connectivity=8)] = 0
    return mask.astype(np.bool_)


def _small(mask: NDArray[np.uint8], pixels: float, *, connectivity: int) -> NDArray[np.bool_]:
    """The parts of the mask that have at most so many pixels."""
    _, labels, statistics, _ = cv2.connectedComponentsWithStats(mask, connectivity=connectivity)
    small = statistics[:, cv2.CC_STAT_AREA] <= pixels
    small[0] = False
    chosen: NDArray[np.bool_] = small[labels]
    return chosen
