"""Videos in files, folders and globs."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipelines.task import Item

__all__ = ["ENDINGS", "discover_videos"]

ENDINGS = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".flv"),
        *(".3gp", ".ogv", ".vob", ".mxf", ".h264", ".hevc"),
    )
)


def discover_videos(inputs: Sequence[Path]) -> list[Item]:
    """One item for each video file, in the order given and by name within folders.

    A file that is named is taken whatever its ending; in a folder, those with a video's ending are, at any depth, but
    not hidden ones. What is named and is not there becomes an item with a `problem`.
    """
    items: dict[Path, Item] = {}
    for item in (item for given in inputs for item in _items(given)):
        items.setdefault(item.paths[0].resolve(), item)
    return list(items.values())


def _items(given: Path) -> Iterator[Item]:
    if os.path.isdir(given):  # unlike `Path.is_dir`, it does not raise where nobody may look
        found = [path for path in sorted(given.rglob("*")) if _is_video(path, below=given)]
        yield from (Item(path.stem, (path,), "video") for path in found)
        if not found:
            yield Item(given.name, (given,), "video", problem="the folder holds no video")
    elif os.path.isfile(given):
        yield Item(given.stem, (given,), "video")
    elif glob.has_magic(str(given)):
        found = [Path(name) for name in sorted(glob.glob(str(given), recursive=True)) if Path(name).is_file()]
        yield from (Item(path.stem, (path,), "video") for path in found)
        if not found:
            yield Item(given.stem or "glob", (given,), "video", problem="no file matches")
    else:
        yield Item(given.stem or str(given), (given,), "video", problem="there is no such file")


def _is_video(path: Path, *, below: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(below).parts)
    # A link that leads nowhere is an item too, whose reason is told.
    return path.suffix.lower() in ENDINGS and (os.path.isfile(path) or not os.path.exists(path)) and not hidden
