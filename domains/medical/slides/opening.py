"""Opens whatever a slide may be kept in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from domains.medical.scans.checks import refuse_unusable_file
from domains.medical.scans.dicom_headers import looks_like_dicom
from domains.medical.slides.picture_reader import PICTURE_SUFFIXES, open_picture
from domains.medical.slides.slide import Slide
from pipelines.errors import CaseError

__all__ = ["open_slide"]

_TIFF_STARTS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_slide(case_id: str, paths: Path | Sequence[Path], *, mpp: float | tuple[float, float] | None = None) -> Slide:
    """Opens a slide; use it in a `with` statement.

    DICOM is told by its content and read by pydicom, pictures by their endings; of the rest, OpenSlide reads what
    scanners write, and tifffile every other TIFF.

    Args:
        case_id: For messages.
        paths: Its file; for DICOM, also the files of one series.
        mpp: Micrometres per pixel of the full resolution, where the file does not say it, or says it wrongly.

    Raises:
        CaseError: It is no slide, or cannot be read.
    """
    from domains.medical.slides.openslide_reader import OpenSlideSlide, openslide_reads

    files = [paths] if isinstance(paths, Path) else list(paths)
    for path in files:
        refuse_unusable_file(case_id, path)
    first = files[0]
    if looks_like_dicom(first):
        from domains.medical.slides.dicom_reader import DicomSlide

        return DicomSlide(case_id, files, mpp=mpp)
    if first.suffix.lower() in PICTURE_SUFFIXES:
        return open_picture(case_id, first, mpp=mpp)
    if openslide_reads(first):
        return OpenSlideSlide(case_id, first, mpp=mpp)
    with first.open("rb") as file:
        start = file.read(4)
    if start in _TIFF_STARTS:
        from domains.medical.slides.tiff_reader import TiffSlide

        return TiffSlide(case_id, first, mpp=mpp)
    raise CaseError(
        case_id,
        f"{first.suffix or first.name} is not a slide that can be read",
        hint="Slides are what OpenSlide reads, OME-TIFF, qptiff, other TIFF, DICOM, PNG and JPEG.",
    )
