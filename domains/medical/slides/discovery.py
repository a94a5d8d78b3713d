"""Finding slides in files, folders and globs.

In a folder, plain pictures are slides only where nothing in it is a file of a slide format or a bag: beside those lie
thumbnails, labels and tiles. DICOM is told by its content, and the files of one series are one slide.
"""

from __future__ import annotations

import glob
import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

from domains.medical.scans.dicom_headers import looks_like_dicom
from domains.medical.scans.item_names import file_name, unique_items
from domains.medical.scans.not_inputs import is_own_result, is_result_folder, label_files
from domains.medical.scans.quiet import quiet
from domains.medical.slides.bagfiles import BAG_SUFFIXES
from domains.medical.slides.dicom_frames import WHOLE_SLIDE_CLASS
from domains.medical.slides.picture_reader import PICTURE_SUFFIXES
from pipelines.task import Item

__all__ = ["SLIDE_SUFFIXES", "discover_slides", "is_slide_name", "with_outlines"]

SLIDE_SUFFIXES = (
    *(".svs", ".ndpi", ".mrxs", ".scn", ".bif", ".vms", ".vmu", ".svslide", ".czi", ".tif", ".tiff"),
    *(".qptiff", ".btf", ".tf8", ".tf2"),
)
_TAGS = ["SOPClassUID", "SeriesInstanceUID"]
_FOREIGN = (".isyntax", ".mcd", ".vsi", ".lif", ".oir", ".zvi", ".i2syntax", ".ets", ".kfb", ".sdpc", ".tmap")
"""Formats of slides that can be told by their names and not be read."""


def is_slide_name(name: str) -> bool:
    """Whether a file name ends like a slide of a scanner or a TIFF."""
    return name.lower().endswith(SLIDE_SUFFIXES)


def discover_slides(inputs: Sequence[Path], *, pictures: bool = True) -> list[Item]:
    """Lists slides, in a fixed order.

    Args:
        inputs: Files, folders (searched with all their folders) and globs.
        pictures: Whether PNG and JPEG in folders may be slides; those that are named always are.

    Returns:
        One item of kind `slide` for each slide; what is named and is none has a `problem`.
    """
    items: list[Item] = []
    dicom: list[tuple[Path, PurePath, bool]] = []
    seen: set[str] = set()
    for path, relative, named in _files(inputs, pictures=pictures):
        real = os.path.realpath(path)
        if real in seen:
            continue
        seen.add(real)
        name = path.name.lower()
        if not path.is_file():
            problem = "no file matches" if glob.has_magic(str(path)) else "file not found"
            items.append(Item(_name(relative), (path,), "slide", problem=problem))
        elif looks_like_dicom(path):
            dicom.append((path, relative, named))
        elif name.endswith((*SLIDE_SUFFIXES, *PICTURE_SUFFIXES)):
            items.append(Item(_name(relative), (path,), "slide"))
        elif name.endswith(_FOREIGN):
            items.append(Item(_name(relative), (path,), "slide", problem=f"{path.suffix} slides cannot be read"))
        elif name.endswith(".dcm"):
            items.append(Item(_name(relative), (path,), "slide", problem="not a DICOM file, whatever its name says"))
        elif named:
            items.append(Item(_name(relative), (path,), "slide", problem="not a slide that can be read"))
    items.extend(_dicom_items(dicom))
    return unique_items(sorted(items, key=lambda item: (item.item_id, str(item.paths))))


def with_outlines(items: Sequence[Item], folder: Path | None) -> list[Item]:
    """The items, each with the GeoJSON of its name in a folder as last path, where there is one."""
    if folder is None:
        return list(items)
    found = []
    for item in items:
        candidates = [folder / f"{item.item_id}.geojson", folder / item.item_id / f"{item.item_id}.tissue.geojson"]
        outlines = next((path for path in candidates if path.is_file()), None)
        kept = item if outlines is None else replace(item, paths=(*item.paths, outlines))
        found.append(kept)
    return found


def _files(inputs: Sequence[Path], *, pictures: bool) -> Iterator[tuple[Path, PurePath, bool]]:
    """Path, name below what was given, and whether the file itself was named."""
    for given in inputs:
        text = str(given)
        matches = [] if os.path.lexists(given) or not glob.has_magic(text) else sorted(glob.glob(text, recursive=True))
        for path in [Path(match) for match in matches] or [given]:
            if path.is_dir():
                yield from ((found, found.relative_to(path), False) for found in _walk(path, pictures=pictures))
            else:
                yield path, PurePath(path.name), not matches


def _walk(root: Path, *, pictures: bool) -> Iterator[Path]:
    """Files that may be slides; plain pictures only where there is nothing but pictures."""
    found: list[Path] = []
    entered: set[str] = set()
    for current, folders, names in os.walk(root, followlinks=True):
        here = Path(current)
        real = os.path.realpath(here)
        # A link may lead back up.
        if real in entered or (here != root and is_result_folder(names, folders)):
            folders.clear()
            continue
        entered.add(real)
        visible = sorted(name for name in names if not name.startswith("."))
        # A MIRAX slide keeps its images in a folder of its own name.
        parts = {Path(name).stem for name in visible if name.lower().endswith(".mrxs")}
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in parts)
        left_out = label_files(visible, folders)
        found += [here / name for name in visible if name not in left_out]
    drawn = [path for path in found if path.name.lower().endswith(PICTURE_SUFFIXES)]
    others = [path for path in found if path not in set(drawn)]
    yield from others
    if pictures and not any(path.name.lower().endswith((*SLIDE_SUFFIXES, *BAG_SUFFIXES, ".dcm")) for path in others):
        yield from (path for path in drawn if not is_own_result(path))


def _dicom_items(found: Sequence[tuple[Path, PurePath, bool]]) -> Iterator[Item]:
    """One item for each series of whole-slide images; other DICOM is passed over, unless it was named."""
    import pydicom

    series: dict[str, list[tuple[Path, PurePath]]] = defaultdict(list)
    for path, relative, named in found:
        with quiet():
            try:
                header = pydicom.dcmread(path, specific_tags=_TAGS, stop_before_pixels=True)
                kind, uid = header.get("SOPClassUID"), str(header.get("SeriesInstanceUID", path))
            except Exception as error:  # noqa: BLE001 - a header can be broken in any way; this ends the one file
                yield Item(_name(relative), (path,), "slide", problem=f"unreadable DICOM header: {error}"[:120])
                continue
        if kind == WHOLE_SLIDE_CLASS:
            series[uid].append((path, relative))
        elif named:
            yield Item(_name(relative), (path,), "slide", problem="DICOM, but not a whole-slide image")
    for files in series.values():
        paths = tuple(path for path, _ in files)
        first = files[0][1]
        alone = len(files) == 1 or not first.parent.parts
        yield Item(_name(first if alone else first.parent), paths, "slide")


def _name(relative: PurePath) -> str:
    suffix = relative.suffix.lower()
    known = suffix in SLIDE_SUFFIXES or suffix in _FOREIGN
    return file_name(relative.with_suffix("") if known and relative.stem else relative)
