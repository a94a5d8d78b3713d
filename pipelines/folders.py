"""Folders that appear whole or not at all: staged beside their place, synced, then put there in one step."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

__all__ = ["publish_folder", "staged_folder", "sync_folder"]

_EXCHANGE = 2
_FROM_WORKING_DIRECTORY = -100
_STALE_SECONDS = 3600.0


def sync_folder(folder: Path) -> None:
    """Makes every file below `folder`, and the folders' own entries, durable."""
    for parent, _, names in os.walk(folder):
        for name in names:
            _sync(Path(parent, name))
        _sync(Path(parent))


def publish_folder(staged: Path, final: Path) -> None:
    """Puts `staged` in the place of `final`, in one step where the file system can exchange two folders.

    Where it cannot, `final` is missing for an instant, but never mixed. What was there before is deleted.
    Both must lie on one file system.
    """
    if not final.exists():
        os.rename(staged, final)
        _sync(final.parent)
        return
    replaced = staged
    if not _exchange(staged, final):
        replaced = staged.with_name(f"{staged.name}.replaced")
        os.rename(final, replaced)
        os.rename(staged, final)
    _sync(final.parent)
    shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A new folder to write into; it becomes `final` when the block ends without an error, and vanishes otherwise."""
    final = Path(os.path.realpath(final))
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(final)
    staged = final.with_name(f".{final.name}.{uuid.uuid4().hex[:8]}.part")
    staged.mkdir()
    try:
        yield staged
        sync_folder(staged)
        publish_folder(staged, final)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _remove_stale(final: Path) -> None:
    """Deletes what a killed writer left; younger leftovers may belong to one that is still at work."""
    for leftover in final.parent.glob(f".{_literal(final.name)}.*.part*"):
        with suppress(OSError):
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                shutil.rmtree(leftover, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{letter}]" if letter in "[*?" else letter for letter in name)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        # Some network file systems cannot sync a folder; the rename is then as durable as they make it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP) or not path.is_dir():
            raise
    finally:
        os.close(handle)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two folders atomically (Linux `renameat2`); False where that is not possible."""
    if sys.platform != "linux":
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    here = _FROM_WORKING_DIRECTORY
    return bool(rename(here, os.fsencode(first), here, os.fsencode(second), _EXCHANGE) == 0)
