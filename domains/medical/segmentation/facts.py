"""Opening a case once: can it be used, and what is in it."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.medical.scans.orientation import to_canonical
from domains.medical.segmentation.classes import Classes
from domains.medical.segmentation.plan import CaseFacts
from domains.medical.segmentation.preprocess import foreground_box
from domains.medical.segmentation.reading import read_image, read_mask, read_reference
from pipelines.cases import Case
from pipelines.errors import CaseError

__all__ = ["look_at"]

_SAMPLE = 10_000
"""Labelled voxels of a case that intensity statistics are taken from."""


def look_at(case: Case, classes: Classes, *, channels: int, crop_foreground: bool) -> tuple[CaseFacts, dict[str, Any]]:
    """Reads a case and checks that image, label and mask belong together.

    Returns:
        What fitting needs, and what is told of the case: plain values.

    Raises:
        CaseError: It cannot be used; the reason says why.
    """
    scan = read_image(case, channels=channels)
    labels = read_reference(case, scan, classes)
    read_mask(case, scan)
    counts = np.bincount(labels.ravel(), minlength=classes.count)
    if not counts[1:].any():
        raise CaseError(
            case.case_id,
            "empty label: every voxel is background",
            hint="If nothing is there to be found, take the case out of the data set; else draw the label again.",
        )
    canonical, _, turn = to_canonical(scan.array, scan.affine)
    shape = canonical.shape[1:]
    if crop_foreground:
        shape = tuple(stop - start for start, stop in foreground_box(canonical))
    lowest, highest = float(scan.array.min()), float(scan.array.max())
    places = np.flatnonzero(labels.ravel())
    places = places[:: max(1, len(places) // _SAMPLE)]
    labelled = np.concatenate([channel.ravel()[places] for channel in scan.array])
    facts = CaseFacts(shape, turn.spacing(scan.spacing), lowest, highest, labelled)
    told = {
        "shape": "×".join(map(str, scan.shape)),
        "spacing_mm": "×".join(f"{step:g}" for step in scan.spacing),
        "minimum": lowest,
        "maximum": highest,
        **{f"voxels_{name}": int(count) for name, count in zip(classes.names, counts[1:], strict=True)},
        "notes": "; ".join(scan.notes),
    }
    return facts, told
