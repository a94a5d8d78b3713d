"""Pictures in files, folders and globs, beside the videos that `domains.video.discovery` finds."""

from __future__ import annotations

import glob
import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from domains.video.discovery import ENDINGS
from pipelines.caseids import normal_identifier
from pipelines.pictures import PICTURE_ENDINGS
from pipelines.task import Item

__all__ = ["discover_pictures", "only_pictures"]


def discover_pictures(inputs: Sequence[Path]) -> list[Item]:
    """One item for each picture, by its path below the folder that was given; equal names get a piece of a digest."""
    found: dict[Path, str] = {}
    for given in inputs:
        for path in _pictures(given):
            inside = path.relative_to(given).with_suffix("") if given.is_dir() else Path(path.stem)
            found.setdefault(path, normal_identifier("-".join(inside.parts)))
    taken = Counter(found.values())
    return [
        Item(name if taken[name] == 1 else _told_apart(name, path), (path,), "picture") for path, name in found.items()
    ]


def only_pictures(given: Path) -> bool:
    """Whether an input holds pictures and no video, so that nobody should look for one in it."""
    if given.is_dir():
        inside = [path.suffix.lower() for path in given.rglob("*") if path.is_file()]
        return any(one in PICTURE_ENDINGS for one in inside) and not any(one in ENDINGS for one in inside)
    if glob.has_magic(str(given)) and not given.exists():
        matched = [Path(name) for name in glob.glob(str(given), recursive=True)]
        return bool(matched) and all(path.suffix.lower() in PICTURE_ENDINGS for path in matched)
    return given.suffix.lower() in PICTURE_ENDINGS and given.is_file()


def _pictures(given: Path) -> list[Path]:
    if given.is_dir():
        below = [path for path in sorted(given.rglob("*")) if not _hidden(path, given)]
    elif given.is_file():
        below = [given]
    elif glob.has_magic(str(given)):
        below = [Path(name) for name in sorted(glob.glob(str(given), recursive=True))]
    else:
        below = []
    return [path for path in below if path.suffix.lower() in PICTURE_ENDINGS and path.is_file()]


def _hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def _told_apart(name: str, path: Path) -> str:
    return f"{name}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
