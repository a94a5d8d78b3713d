"""Finding bags in files, folders and globs."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath

from domains.medical.bags.arrays import is_arrays, open_arrays
from domains.medical.bags.reading import FILE_SUFFIXES, PICTURE_SUFFIXES
from domains.medical.scans.item_names import file_name, unique_items
from pipelines.caseids import normal_identifier
from pipelines.task import Item

__all__ = ["discover"]


def discover(inputs: Sequence[Path], *, pictures: bool) -> list[Item]:
    """Lists what can be predicted, in a fixed order.

    Args:
        inputs: Files, folders (searched with all their folders) and globs.
        pictures: Whether pictures in folders are inputs, to be cut into tiles; those that are named always are.

    Returns:
        An item for each file of features and each picture, and for each bag of a file of arrays.
    """
    items: list[Item] = []
    seen: set[Path] = set()
    for given in inputs:
        for path, relative, named in _files(given):
            if path in seen:
                continue
            seen.add(path)
            items.extend(_items(path, relative, named=named, pictures=pictures))
    return unique_items(sorted(items, key=lambda item: (item.item_id, str(item.paths))))


def _files(given: Path) -> Iterator[tuple[Path, PurePath, bool]]:
    """Path, name below what was given, and whether the file itself was named."""
    if given.is_dir():
        for path in sorted(given.rglob("*")):
            relative = path.relative_to(given)
            if path.is_file() and not any(part.startswith(".") for part in relative.parts):
                yield path, relative, False
        return
    matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    for name in matches:
        yield from _files(Path(name)) if Path(name).is_dir() else iter([(Path(name), PurePath(Path(name).name), False)])
    if not matches:
        yield given, PurePath(given.name), True


def _items(path: Path, relative: PurePath, *, named: bool, pictures: bool) -> list[Item]:
    suffix = path.suffix.lower()
    name = file_name(relative.with_suffix("") if suffix in FILE_SUFFIXES else relative)
    if not path.is_file():
        reason = "no file matches" if glob.has_magic(str(path)) else "file not found"
        return [Item(name or "input", (path,), problem=reason)]
    if is_arrays(path):
        bags = open_arrays(path).members
        return [Item(normal_identifier(f"{name}-{bag}"), (path,), "arrays", {"bag": bag}) for bag in bags]
    if suffix in FILE_SUFFIXES:
        return [Item(name, (path,), "bag")]
    if suffix in PICTURE_SUFFIXES and (named or pictures):
        return [Item(name, (path,), "image")]
    if named:
        allowed = ", ".join((*FILE_SUFFIXES, *PICTURE_SUFFIXES))
        return [Item(name, (path,), problem=f"not a bag: {suffix or 'no ending'}; allowed are {allowed}")]
    return []
