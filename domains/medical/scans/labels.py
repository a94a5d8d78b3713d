"""What a label map must be before it is written."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from domains.medical.scans.scan import Scan

__all__ = ["checked_labels"]


def checked_labels(scan: Scan, labels: NDArray[np.integer], classes: Sequence[str]) -> NDArray[np.unsignedinteger]:
    """Labels as uint8, or uint16 for 256 classes and more.

    Raises:
        ValueError: If they are not whole numbers from 0 to `len(classes)` on the grid of `scan`.
    """
    if labels.shape != scan.shape:
        raise ValueError(f"labels of shape {labels.shape} do not lie on the scan's grid {scan.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels have dtype {labels.dtype}; expected whole numbers")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high > len(classes):
        raise ValueError(
            f"labels reach from {low} to {high}; with {len(classes)} classes 0 to {len(classes)} are allowed"
        )
    return labels.astype(np.uint8 if len(classes) < 256 else np.uint16, copy=False)
