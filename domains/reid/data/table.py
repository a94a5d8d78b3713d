"""A CSV file: `path, identity` and, where known, `camera, split, view, track, role`; other columns are attributes."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping
from pathlib import Path

from domains.reid.data.records import ImageRecord, Records, record_name
from domains.reid.data.settings import IdentityTable
from pipelines.caseids import common_root, some
from pipelines.errors import DataError

__all__ = ["read_identity_table"]

_COLUMNS = ("path", "identity", "camera", "split", "view", "track", "role")
_PARTS = {
    "": ("", ""),
    "train": ("train", ""),
    "val": ("validation", ""),
    "validation": ("validation", ""),
    "test": ("test", ""),
    "query": ("test", "query"),
    "gallery": ("test", "gallery"),
}


def read_identity_table(settings: IdentityTable) -> Records:
    """Reads the pictures of a table. A row without an identity is a distractor of the gallery.

    Raises:
        DataError: A column is missing; or cells are wrong, all of them told at once by row; or there is no row.
    """
    rows = _rows(settings.file)
    folder = settings.root or settings.file.parent
    paths = [Path(os.path.abspath(folder / row["path"])) if row["path"] else None for row in rows]
    root = common_root(folder, [path for path in paths if path is not None])
    records, problems = Records(root), list[str]()
    for number, (row, path) in enumerate(zip(rows, paths, strict=True), start=2):
        part, role = _PARTS.get(row.get("split", "").lower(), (None, ""))
        role = row.get("role", "").lower() or role
        if path is None:
            problems.append(f"row {number}: no path")
        elif part is None:
            problems.append(
                f"row {number}: unknown split {row['split']!r}; use {', '.join(name for name in _PARTS if name)}"
            )
        elif role not in ("", "query", "gallery"):
            problems.append(f"row {number}: unknown role {role!r}; use query or gallery")
        elif not row["identity"] and role != "gallery":
            problems.append(f"row {number}: no identity; only pictures of the gallery may be nobody's")
        elif not path.is_file():
            records.skip(path, "named in the table, but there is no such file")
        else:
            known = {name: row.get(name, "") for name in ("camera", "view", "track")}
            attributes = {name: value for name, value in row.items() if name not in _COLUMNS and value}
            records.used.append(
                ImageRecord(
                    record_name(root, path), path, row["identity"], **known, part=part, role=role, attributes=attributes
                )
            )
    if problems:
        raise DataError(
            f"{settings.file.name}: {len(problems)} problems\n  " + some(problems, limit=20, separator="\n  "),
            hint="Mend the table; paths are relative to its folder (or to `data.root`).",
        )
    if not records.used:
        raise DataError(f"{settings.file.name}: none of its {len(rows)} pictures is there", hint="Check `data.root`.")
    records.used.sort(key=lambda record: record.name)
    return records


def _rows(path: Path) -> list[Mapping[str, str]]:
    if not path.is_file():
        raise DataError(f"no table {path.name!r} in {path.parent.name!r}", hint="Check `data.file`.")
    with path.open(newline="", encoding="utf-8-sig") as opened:
        reader = csv.DictReader(opened)
        columns = list(reader.fieldnames or ())
        missing = [name for name in ("path", "identity") if name not in columns]
        if missing:
            raise DataError(
                f"{path.name}: no column {missing[0]!r}; it has {', '.join(columns) or 'none'}",
                hint=f"Columns: {', '.join(_COLUMNS)}; path and identity are needed, others become attributes.",
            )
        return [{name: (row.get(name) or "").strip() for name in columns} for row in reader]
