"""Slides in the formats of scanners, by OpenSlide: svs, ndpi, mrxs, scn, bif, vms, svslide and others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.checks import brief
from domains.medical.slides.slide import BACKGROUND, Level, Slide, SlideFacts, usable_mpp
from pipelines.errors import CaseError

__all__ = ["OpenSlideSlide", "openslide_reads"]


def openslide_reads(path: Path) -> bool:
    """Whether OpenSlide knows the scanner's format.

    It would open any tiled TIFF, but without what OME-XML says and without levels that are kept in SubIFDs.
    """
    import openslide

    return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")


class OpenSlideSlide(Slide):
    """A slide that OpenSlide reads. Raises `CaseError` when it cannot."""

    def __init__(self, case_id: str, path: Path, *, mpp: float | tuple[float, float] | None = None) -> None:
        import openslide

        try:
            self._file: Any = openslide.OpenSlide(path)
        except openslide.OpenSlideError as error:
            raise CaseError(
                case_id, f"OpenSlide cannot open it: {brief(error, path)}", hint="Copy the file again from its source."
            ) from error
        try:
            facts = _facts(self._file)
        except openslide.OpenSlideError as error:
            self._file.close()
            raise _damaged(case_id, error, path) from error
        super().__init__(case_id, path, facts, mpp=mpp)
        # Rounded level sizes make downsamples such as 4.0003; OpenSlide goes by its own.
        self._own = tuple(self._file.level_downsamples)

    def _read(self, level: int, x: int, y: int, width: int, height: int) -> NDArray[np.uint8]:
        import openslide

        scale = self._own[level]
        try:
            image = self._file.read_region((round(x * scale), round(y * scale)), level, (width, height))
        except openslide.OpenSlideError as error:
            raise _damaged(self.case_id, error, self.path) from error
        pixels = np.asarray(image)  # (H, W, 4)
        if pixels[..., 3].min() == 255:
            return np.ascontiguousarray(pixels[..., :3])
        alpha = pixels[..., 3:].astype(np.uint16)
        mixed = (pixels[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255
        return mixed.astype(np.uint8)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _damaged(case_id: str, error: Exception, path: Path) -> CaseError:
    return CaseError(case_id, f"damaged slide: {brief(error, path)}", hint="Copy the file again from its source.")


def _facts(file: Any) -> SlideFacts:
    said = file.properties
    vendor = said.get("openslide.vendor", "unknown")
    levels = tuple(
        Level(width, height, downsample)
        for (width, height), downsample in zip(file.level_dimensions, file.level_downsamples, strict=True)
    )
    mpp = usable_mpp(said.get("openslide.mpp-x"), said.get("openslide.mpp-y"))
    try:
        power: float | None = float(said["openslide.objective-power"])
    except (KeyError, ValueError):
        power = None
    return SlideFacts(f"openslide/{vendor}", levels, mpp, power if power and power > 0 else None)
