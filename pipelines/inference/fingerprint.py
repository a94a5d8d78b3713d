"""What an item is made of: the digest of its files' contents, remembered while the files stay as they are."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from pipelines.task import Item

__all__ = ["FileDigests", "FileState", "item_digest", "path_key"]

_SETTLED_NANOSECONDS = 2_000_000_000
"""A file changed more recently than this may change again within one tick of its clock, so it is not remembered."""


class FileState(NamedTuple):
    """What tells that a file has not been touched, and its digest."""

    size: int
    modified: int
    changed: int
    inode: int
    sha256: str


def path_key(path: Path) -> str:
    """A name for a path that does not tell the path."""
    return hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32]


class FileDigests:
    """Digests of files, computed again only for files whose size or times differ. May be used by several threads."""

    def __init__(self, known: Mapping[str, FileState] | None = None) -> None:
        self._known = dict(known or {})
        self._fresh: dict[str, FileState] = {}
        self._lock = threading.Lock()

    def digest(self, path: Path) -> str:
        """sha256 of a regular file's bytes; links are followed.

        Raises:
            OSError: It cannot be read, or is no regular file.
        """
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(f"{path.name} is not a regular file")
        key = path_key(path)
        state = (found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
        with self._lock:
            known = self._known.get(key)
        if known is not None and known[:4] == state:
            return known.sha256
        with open(path, "rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        if time.time_ns() - max(found.st_mtime_ns, found.st_ctime_ns) > _SETTLED_NANOSECONDS:
            with self._lock:
                self._known[key] = self._fresh[key] = FileState(*state, sha256)
        return sha256

    def take_fresh(self) -> dict[str, FileState]:
        """What was learned since the last call."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
        return fresh


def item_digest(item: Item, digests: FileDigests) -> str:
    """Digest of what an item is read from: kind, detail and the contents of its files in order, whatever their names.

    Raises:
        OSError: A file cannot be read, or is no regular file.
    """
    contents = [digests.digest(file) for path in item.paths for file in _files(path)]
    content = {"kind": item.kind, "detail": dict(item.detail), "files": contents}
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def _files(path: Path) -> Iterable[Path]:
    if path.is_dir():
        return sorted(Path(parent, name) for parent, _, names in os.walk(path) for name in names)
    return (path,)
