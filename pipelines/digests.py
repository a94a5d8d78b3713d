"""What the data are, by content: SHA-256 of files, of a whole data set, and which files are the same.

Digests of unchanged files are kept in a small cache (`$PULVINAR_CACHE`, else `$XDG_CACHE_HOME/pulvinar`, else
`~/.cache/pulvinar`), so that a second run does not read every scan again. It holds digests only: no path, no name.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TypeVar

from pipelines.cases import CaseTable
from pipelines.errors import DataError

__all__ = ["cache_folder", "data_digest", "file_digests", "same_content"]

Key = TypeVar("Key")

_THREADS = 4
_SETTLED_SECONDS = 2.0
"""A file changed this recently may change again without a new time stamp; its digest is not kept."""

_log = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Where things are kept that can be made again; it need not exist yet."""
    named = os.environ.get("PULVINAR_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(named) if named else (Path(base) if base else Path("~/.cache").expanduser()) / "pulvinar"


def data_digest(table: CaseTable) -> str:
    """SHA-256 (hexadecimal) over case identifiers, roles and file contents.

    The order of cases, where files lie, how they are named, and how cases are divided make no difference.

    Raises:
        DataError: A file is not there or cannot be read.
    """
    digests = file_digests(path for case in table for path in case.paths.values())
    lines = sorted(
        "\0".join((case.case_id, role, digests[path])) for case in table for role, path in case.paths.items()
    )
    bare = sorted(case.case_id for case in table if not case.paths)
    return hashlib.sha256("\n".join([*lines, *bare]).encode()).hexdigest()


def file_digests(paths: Iterable[Path]) -> dict[Path, str]:
    """SHA-256 (hexadecimal) of each file's content; of a folder, of the contents of all files below it.

    Raises:
        DataError: A file is not there or cannot be read.
    """
    unique = list(dict.fromkeys(paths))
    cache = _Cache()
    known = cache.load()

    def digest(path: Path) -> str:
        try:
            if path.is_dir():
                files = (item for item in path.rglob("*") if item.is_file())
                return hashlib.sha256("".join(sorted(map(digest, files))).encode()).hexdigest()
            key = _identity(path)
            found = known.get(key)
            if found is None:
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
                if time.time() - path.stat().st_mtime > _SETTLED_SECONDS:
                    cache.fresh[key] = found
        except OSError as error:
            raise DataError(
                f"{path.name}: cannot be read: {error.strerror or error}", hint="Check that the file is there."
            ) from error
        return found

    with ThreadPoolExecutor(max_workers=_THREADS) as pool:
        digests = dict(zip(unique, pool.map(digest, unique), strict=True))
    cache.save()
    return digests


def same_content(paths: Mapping[Key, Path]) -> list[list[Key]]:
    """Keys whose files hold the same bytes, in sets of two or more. Only files of equal size are read.

    Files that are not there are passed over, and so are empty ones: they say nothing.
    """
    by_size: dict[int, list[Key]] = defaultdict(list)
    for key, path in paths.items():
        if path.is_dir():
            by_size[-1].append(key)
        elif path.is_file() and (size := path.stat().st_size):
            by_size[size].append(key)
    suspects = [key for keys in by_size.values() if len(keys) > 1 for key in keys]
    digests = file_digests(paths[key] for key in suspects)
    by_digest: dict[str, list[Key]] = defaultdict(list)
    for key in suspects:
        by_digest[digests[paths[key]]].append(key)
    return [keys for keys in by_digest.values() if len(keys) > 1]


def _identity(path: Path) -> str:
    """Changes whenever the file is another or has been written to; tells nothing about its name."""
    status = path.stat()
    facts = (
        os.path.realpath(path),
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_ino,
        status.st_dev,
    )
    return hashlib.sha256(repr(facts).encode()).hexdigest()


class _Cache:
    """Identity → digest, in SQLite so that processes may share it. A cache that cannot be used is done without."""

    def __init__(self) -> None:
        self.fresh: dict[str, str] = {}
        self._path = cache_folder() / "digests.sqlite"

    def load(self) -> dict[str, str]:
        if not self._path.is_file():
            return {}
        try:
            with closing(sqlite3.connect(self._path, timeout=5)) as connection:
                return dict(connection.execute("SELECT identity, digest FROM digests"))
        except sqlite3.Error as error:
            _log.debug("digest cache not read: %s", error)
            return {}

    def save(self) -> None:
        if not self.fresh:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self._path, timeout=5)) as connection, connection:
                connection.execute(
                    "CREATE TABLE IF NOT EXISTS digests (identity TEXT PRIMARY KEY, digest TEXT NOT NULL)"
                )
                connection.executemany("INSERT OR REPLACE INTO digests VALUES (?, ?)", self.fresh.items())
        except (sqlite3.Error, OSError) as error:
            _log.debug("digest cache not written: %s", error)
