"""Reading any scan or label map, whatever its format."""

from __future__ import annotations

from pathlib import Path

from domains.medical.scans.checks import as_labels, finish_scan
from domains.medical.scans.nifti import read_nifti
from domains.medical.scans.scan import Scan
from pipelines.task import Item

__all__ = ["read_labels", "read_scan"]


def read_scan(source: Path | Item, *, channels: int = 1) -> Scan:
    """Reads an image as float32 `(channels, *S)`. Raises `CaseError`."""
    path = source.paths[0] if isinstance(source, Item) else source
    case_id = source.item_id if isinstance(source, Item) else path.name.split(".")[0]
    array, affine, geometry, notes = read_nifti(case_id, path, channels=channels)
    return finish_scan(case_id, array, affine, geometry, notes=notes)


def read_labels(source: Path | Item) -> Scan:
    """Reads a label map as whole numbers `(1, *S)`. Raises `CaseError`."""
    path = source.paths[0] if isinstance(source, Item) else source
    case_id = source.item_id if isinstance(source, Item) else path.name.split(".")[0]
    array, affine, geometry, notes = read_nifti(case_id, path, channels=1)
    return Scan(as_labels(case_id, array), affine, geometry, notes)
