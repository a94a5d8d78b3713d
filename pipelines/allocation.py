"""Keeping freed memory for reuse, which makes networks on the CPU markedly faster."""

from __future__ import annotations

import ctypes
from contextlib import suppress

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_KEPT_BYTES = 1 << 30
_LARGEST_KEPT_BYTES = 256 << 20


def keep_freed_memory() -> bool:
    """Has the C library keep freed blocks of up to 256 MB, 1 GB in all at the end of its heap, for the whole process.

    By default glibc hands every block above 32 MB back to the system, which clears it page by page when the next layer
    asks for it again: a third of the time of a forward pass on a patch of 64³. Peak memory stays the same, as the same
    blocks are used again.

    Returns:
        Whether the C library took it; only glibc knows how.
    """
    # Without a file name, CDLL means what the process itself is linked to; elsewhere than in glibc the name is missing.
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
    return False
