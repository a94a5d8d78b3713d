"""A table (CSV or Parquet): `path, identity` and, where known, `camera, split, view, track, role`.

Other columns are attributes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from domains.reid.data.records import ImageRecord, Records, record_name
from domains.reid.data.settings import IdentityTable
from pipelines.caseids import common_root, some
from pipelines.errors import DataError
from pipelines.tablefiles import load_rows

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
    paths = [Path(os.path.abspath(folder / row["path"])) if row["path"] else None for _, row in rows]
    root = common_root(folder, [path for path in paths if path is not None])
    records, problems, seen = Records(root), list[str](), dict[Path, str]()
    for (where, row), path in zip(rows, paths, strict=True):
        part, role = _PARTS.get(row.get("split", "").lower(), (None, ""))
        role = row.get("role", "").lower() or role
        before = "" if path is None else seen.setdefault(path, where)
        if path is None or part is None or (problem := _problem(row, role, "" if before == where else before)):
            told = "no path" if path is None else _unknown_split(row) if part is None else problem
            problems.append(f"{where}: {told}")
            continue
        if not path.is_file():
            records.skip(path, "named in the table, but there is no such file")
            continue
        known = {name: row.get(name, "") for name in ("camera", "view", "track")}
        attributes = {name: value for name, value in row.items() if name not in _COLUMNS and value}
        records.used.append(
            ImageRecord(
                record_name(root, path), path, row["identity"], **known, part=part, role=role, attributes=attributes
            )
        )
    if problems:
        raise DataError(
            f"{settings.file.name}: {len(problems)} wrong rows\n  " + some(problems, limit=20, separator="\n  "),
            hint="Mend the table; paths are relative to its folder (or to `data.root`).",
        )
    if not rows:
        raise DataError(f"{settings.file.name}: the table has no rows", hint="Name a picture in each row.")
    if not records.used:
        raise DataError(f"{settings.file.name}: none of its {len(rows)} pictures is there", hint="Check `data.root`.")
    records.used.sort(key=lambda record: record.name)
    return records


def _problem(row: Mapping[str, str], role: str, before: str) -> str:
    """What is wrong with a row; empty where nothing is. `before` is the row that names the same file."""
    if before:
        return f"{row['path']} stands in {before} already"
    if role not in ("", "query", "gallery"):
        return f"unknown role {role!r}; use query or gallery"
    if not row["identity"] and role != "gallery":
        return "no identity; only pictures of the gallery may be nobody's"
    return ""


def _unknown_split(row: Mapping[str, str]) -> str:
    return f"unknown split {row['split']!r}; use {', '.join(name for name in _PARTS if name)}"


def _rows(path: Path) -> Sequence[tuple[str, Mapping[str, str]]]:
    """Where each row stands, and its cells by column."""
    table = load_rows(path)
    missing = [name for name in ("path", "identity") if name not in table.columns]
    twice = sorted({name for name in table.columns if table.columns.count(name) > 1})
    if missing or twice:
        told = f"no column {missing[0]!r}" if missing else f"column {twice[0]!r} stands twice"
        raise DataError(
            f"{path.name}: {told}; it has {', '.join(table.columns) or 'none'}",
            hint=f"Columns: {', '.join(_COLUMNS)}; path and identity are needed, others become attributes.",
        )
    return table.rows
