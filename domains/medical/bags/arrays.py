"""All bags of a data set in one file of arrays, as the benchmarks of multiple-instance learning are handed round."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.caseids import normal_identifier
from pipelines.cases import Case, CaseTable
from pipelines.errors import DataError

__all__ = ["Arrays", "array_cases", "is_arrays", "open_arrays"]

_NEEDED = ("X", "bag_id", "bag_ids")


@dataclass(frozen=True)
class Arrays:
    """Instances of all bags.

    Attributes:
        features: float32 `(instances, F)`.
        members: Bag identifier → rows of its instances.
        labels: Bag identifier → label, where the file has them.
    """

    features: NDArray[np.float32]
    members: dict[str, NDArray[np.intp]]
    labels: dict[str, int]


def is_arrays(path: Path) -> bool:
    """Whether a `.npz` holds many bags, by the names of its arrays."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return {f"{name}.npy" for name in _NEEDED} <= set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def open_arrays(path: Path) -> Arrays:
    """Reads a file once; an unchanged one is not read again.

    Raises:
        DataError: It is not there, damaged, or lacks an array.
    """
    try:
        return _open(path, path.stat().st_mtime_ns)
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check data.file.") from error


@lru_cache(maxsize=4)
def _open(path: Path, _: int) -> Arrays:
    try:
        with np.load(path, allow_pickle=False) as held:
            missing = [name for name in _NEEDED if name not in held]
            if missing:
                raise DataError(
                    f"{path.name} has no array {', '.join(missing)}; it has {', '.join(held) or 'none'}",
                    hint="X (instances, features), bag_id of each instance, bag_ids and bag_label of each bag.",
                )
            features = np.asarray(held["X"], dtype=np.float32)
            owner, ids = held["bag_id"], held["bag_ids"]
            labels = held.get("bag_label")
    except (ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path.name} is not a readable file of arrays: {error}") from error
    if features.ndim != 2 or owner.shape != features.shape[:1]:
        raise DataError(f"{path.name}: X {features.shape} and bag_id {owner.shape} do not belong together")
    members = {str(name): np.flatnonzero(owner == name) for name in ids}
    told = {} if labels is None else dict(zip(members, (int(value) for value in labels), strict=True))
    return Arrays(features, members, told)


def array_cases(path: Path) -> CaseTable:
    """A case for each bag; its `container` is the file and its label `bag` the identifier there."""
    arrays = open_arrays(path)
    width = max(len(name) for name in arrays.members)
    cases = []
    for name in arrays.members:
        case_id = normal_identifier(f"bag-{name.zfill(width)}")
        labels = {"bag": name} | ({"label": arrays.labels[name]} if name in arrays.labels else {})
        cases.append(Case(case_id, case_id, {"container": path}, labels))
    return CaseTable(tuple(cases), path.parent, path.stem)
