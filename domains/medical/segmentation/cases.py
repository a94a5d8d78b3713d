"""The cases of a segmentation workflow, and how many channels their images have."""

from __future__ import annotations

from pathlib import Path

from domains.medical.cases import read_medical_cases
from domains.medical.scans.pictures import is_picture_name
from domains.medical.segmentation.data_settings import PhantomData
from domains.medical.segmentation.settings import SegmentationWorkflow
from pipelines.cases import CaseTable

__all__ = ["count_channels", "read_cases"]


def read_cases(config: SegmentationWorkflow) -> CaseTable:
    """Reads the cases that `data` names; the phantom is written first. Raises `DataError`."""
    if isinstance(config.data, PhantomData):
        from domains.medical.segmentation.phantom import write_phantom

        folder = Path(config.output) / config.data.folder
        return write_phantom(folder, cases=config.data.cases, size=config.data.size, seed=config.data.seed)
    return read_medical_cases(config.data)


def count_channels(config: SegmentationWorkflow, table: CaseTable) -> int:
    """Channels of images: as set, else one for each file, else as the data set names, else as the first picture has."""
    if isinstance(config.preprocess.channels, int):
        return config.preprocess.channels
    files = table.cases[0].files("image") if table.cases else ()
    if len(files) > 1:
        return len(files)
    named = table.about.get("channels") or ()
    if len(named) > 1:
        return len(named)
    return 3 if files and is_picture_name(files[0].name) and _is_colour(files[0]) else 1


def _is_colour(path: Path) -> bool:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            return picture.mode in ("RGB", "RGBA", "P", "CMYK", "YCbCr", "HSV", "LAB")
    except (OSError, UnidentifiedImageError):
        # The reader will name what is wrong with it; a TIFF that Pillow does not know is grey as a rule.
        return False
