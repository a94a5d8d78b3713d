"""Silence for libraries that warn about every odd header; what matters is told by our own checks."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]

_lock = threading.Lock()
_readers = 0
_filters: warnings.catch_warnings[None] | None = None


@contextmanager
def quiet() -> Iterator[None]:
    """Ignores warnings while at least one reader is inside.

    Warning filters belong to the process, so readers in several threads share one saved state: the first one in saves
    it, the last one out restores it.
    """
    global _readers, _filters
    for library in ("pydicom", "tifffile", "highdicom"):
        logging.getLogger(library).setLevel(logging.CRITICAL)
    with _lock:
        if _readers == 0:
            _filters = warnings.catch_warnings()
            _filters.__enter__()
            warnings.simplefilter("ignore")
        _readers += 1
    try:
        yield
    finally:
        with _lock:
            _readers -= 1
            if _readers == 0 and _filters is not None:
                _filters.__exit__(None, None, None)
                _filters = None
