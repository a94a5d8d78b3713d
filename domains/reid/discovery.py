"""Pictures to predict: files, folders (with what is below them) and globs."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from domains.reid.data.files import files_below, is_picture
from pipelines.caseids import identifier_problem
from pipelines.task import Item

__all__ = ["discover_pictures"]

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST = 100


def discover_pictures(inputs: Sequence[Path]) -> list[Item]:
    """One item for each picture, in the order of the inputs and of names below them.

    An item is named by its path below the folder that was given (`0002/c1_01.jpg` is `0002-c1_01`), by its file name
    where a file was given. Names that meet get a few letters of a digest of the whole path.

    Raises nothing: what is not there or no picture is an item with a `problem`.
    """
    found: dict[Path, str] = {}
    problems: list[Item] = []
    for given in inputs:
        if given.is_dir():
            for path in files_below(given):
                if is_picture(path) and path.is_file():
                    found.setdefault(path, "-".join(path.relative_to(given).with_suffix("").parts))
                elif is_picture(path):
                    problems.append(Item(_safe(path.name, path), (path,), "picture", problem="leads to no file"))
            continue
        for path in _files(given):
            if path.is_file() and is_picture(path):
                found.setdefault(path, path.stem)
            else:
                reason = "not a picture by its ending" if path.is_file() else "there is no such file"
                problems.append(Item(_safe(path.name, path), (path,), "picture", problem=reason))
    taken: dict[str, int] = {}
    for name in found.values():
        taken[_safe(name)] = taken.get(_safe(name), 0) + 1
    items = []
    for path, name in found.items():
        safe = _safe(name)
        items.append(Item(safe if taken[safe] == 1 else _safe(name, path), (path,), "picture"))
    return items + problems


def _files(given: Path) -> Iterator[Path]:
    if given.exists():
        yield given
        return
    matched = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    yield from (Path(name) for name in matched) if matched else iter([given])


def _safe(name: str, path: Path | None = None) -> str:
    """A name that serves as a file name; with a path, one that no other path has."""
    text = _UNSAFE.sub("_", name).strip("._-")[:_LONGEST] or "picture"
    if path is not None:
        text = f"{text}-{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:8]}"
    assert not identifier_problem(text)
    return text
