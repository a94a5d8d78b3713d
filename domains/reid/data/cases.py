"""From records to cases: by identity for retrieval, by picture for classification."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from domains.reid.data.benchmarks import read_benchmark, read_cub, read_vehicleid
from domains.reid.data.folders import read_identity_folders
from domains.reid.data.records import ImageRecord, Records
from domains.reid.data.settings import BenchmarkData, CubData, DataSettings, IdentityFolders, VehicleIdData
from domains.reid.data.table import read_identity_table
from pipelines.caseids import identifier_problem, normal_identifier
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.errors import DataError

__all__ = ["case_table", "read_records"]


def read_records(settings: DataSettings) -> Records:
    """Reads what the `data` section names. Raises `DataError`."""
    if isinstance(settings, BenchmarkData):
        return read_benchmark(settings)
    if isinstance(settings, VehicleIdData):
        return read_vehicleid(settings)
    if isinstance(settings, CubData):
        return read_cub(settings)
    if isinstance(settings, IdentityFolders):
        return read_identity_folders(settings)
    return read_identity_table(settings)


def case_table(records: Records, *, group: Literal["identity", "image"]) -> CaseTable:
    """Cases of all records, in the order of their names.

    Args:
        records: Pictures.
        group: What may not be divided between parts. `identity`: an identity of the training part is never searched
            for. `image`: pictures of one class stand in every part, as classification needs; a track stays together.

    Raises:
        DataError: Two pictures have one name, a name cannot be used, or no picture is left.
    """
    cases = []
    excluded = [
        Excluded(name, reason, expected=name in records.by_rule) for name, reason in sorted(records.skipped.items())
    ]
    seen: dict[str, ImageRecord] = {}
    for record in sorted(records.used, key=lambda record: record.name):
        name = normal_identifier(record.name)
        problem = identifier_problem(name)
        if not problem and group == "image" and not record.identity:
            problem = "has no identity to be classified as"
        if problem:
            excluded.append(Excluded(record.name, problem, "Rename the file."))
            continue
        if name in seen:
            told = " and ".join(str(_below(records.root, one.path)) for one in (seen[name], record))
            raise DataError(
                f"two pictures have the name {name!r}: {told}",
                hint="Names are made of folders and file names without their ending; rename one of them.",
            )
        seen[name] = record
        cases.append(_case(dataclasses.replace(record, name=name), group))
    if not cases:
        raise DataError(f"none of {records.found} pictures can be used; the first: {excluded[0].reason}")
    return CaseTable(tuple(cases), records.root, records.root.name, tuple(excluded), {"report": records.report()})


def _below(root: Path, path: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _case(record: ImageRecord, group: Literal["identity", "image"]) -> Case:
    labels: dict[str, Any] = {"identity": record.identity, **record.attributes}
    for name in ("camera", "view", "track", "role"):
        if getattr(record, name):
            labels[name] = getattr(record, name)
    whole = record.identity if group == "identity" else record.track and f"track {record.track}"
    return Case(record.name, whole or record.name, {"image": record.path}, labels, record.part)
