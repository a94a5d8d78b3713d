"""Files below a folder, links followed, in an order that the file system does not decide."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["PICTURE_SUFFIXES", "files_below", "is_picture"]

PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Endings of files that count as pictures."""


def is_picture(path: Path) -> bool:
    """Whether a file is a picture by its ending, however that is spelled."""
    return path.suffix.lower() in PICTURE_SUFFIXES


def files_below(root: Path) -> Iterator[Path]:
    """Every file below `root`, sorted by path; hidden ones, and what lies in hidden folders, are left out.

    Linked folders are followed, each folder once, so that a link that leads back up ends nothing. A link that leads
    nowhere is given out too: `is_file` tells it.
    """
    found, seen = [], set[tuple[int, int]]()
    for current, folders, names in os.walk(root, followlinks=True):
        state = os.stat(current)
        if (state.st_dev, state.st_ino) in seen:
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        # The order decides under which name a folder is seen that several links lead to.
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(current, name) for name in names if not name.startswith(".")]
    yield from sorted(found)
