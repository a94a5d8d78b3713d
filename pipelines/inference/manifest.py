"""Manifests: tables or lists of what to predict, in place of files and folders.

    .csv .tsv .parquet   columns `path` and, if wanted, `item_id` and what else the task is told of an item (its camera)
    .jsonl .ndjson       one object a line with the same keys
    .txt .lst            one path a line; empty lines and lines that begin with # are left out

Relative paths belong to the folder of the manifest.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipelines.errors import DataError
from pipelines.task import Item

__all__ = ["ManifestRow", "expand_inputs", "is_manifest", "read_manifest"]

_TABLES = (".csv", ".tsv", ".parquet", ".txt")


@dataclass(frozen=True)
class ManifestRow:
    """One line of a manifest: what to read, the name it is to have (or none), where it stands, what is told of it."""

    path: Path
    item_id: str
    where: str
    detail: Mapping[str, str] = field(default_factory=dict)


def is_manifest(path: Path) -> bool:
    """Whether an input is a manifest, by its ending."""
    return path.suffix.lower() in _READERS and path.is_file()


def read_manifest(path: Path, columns: Sequence[str] = ()) -> list[ManifestRow]:
    """All rows, with what they tell in `columns`. Raises `DataError` when the file is no manifest."""
    try:
        rows = list(_READERS[path.suffix.lower()](path))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"manifest {path.name} cannot be read: {error}", hint="Save it as UTF-8.") from error
    manifest = []
    for line, row in rows:
        where = f"{path.name}:{line}"
        if "path" not in row:
            found = ", ".join(str(name) for name in row) or "nothing"
            raise DataError(
                f"{where}: there is no column 'path' (found: {found})",
                hint="A manifest has a column 'path' and may have 'item_id'.",
            )
        target = str(row["path"] or "").strip()
        place = Path(os.path.abspath(path.parent / target)) if target else Path()
        told = {name: text for name in columns if (text := _text(row.get(name)))}
        manifest.append(ManifestRow(place, _text(row.get("item_id")), where, told))
    return manifest


def _text(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()


def expand_inputs(
    inputs: Sequence[Path],
    discover: Callable[[Sequence[Path]], list[Item]],
    *,
    tables: bool = False,
    columns: Sequence[str] = (),
) -> tuple[list[Item], list[Path]]:
    """The items of files, folders, globs and manifests, and the inputs that their places are told relative to.

    A row of a manifest that names nothing readable becomes an item with a `problem`, never an absence.

    Args:
        inputs: What the user named.
        discover: The items in files, folders and globs.
        tables: Whether tables and texts are inputs themselves; of manifests, JSON lines are then left.
        columns: Columns of manifests that go into `Item.detail`.
    """
    manifests = [path for path in inputs if is_manifest(path) and not (tables and path.suffix.lower() in _TABLES)]
    plain = [path for path in inputs if path not in manifests]
    rows = [row for path in manifests for row in read_manifest(path, columns)]
    present = list(dict.fromkeys(row.path for row in rows if row.path.name and row.path.exists()))
    items = discover(plain) if plain else []
    below = _by_row(discover(present), present) if present else {}
    for row in rows:
        items.extend(_row_items(row, below))
    return items, [*plain, *(path.parent for path in manifests)]


def _by_row(items: Sequence[Item], rows: Sequence[Path]) -> dict[Path, list[Item]]:
    """Items by the row that led to them: the row's own path, or the nearest folder above."""
    below: dict[Path, list[Item]] = {row: [] for row in rows}
    for item in items:
        if item.paths:
            path = Path(os.path.abspath(item.paths[0]))
            for candidate in (path, *path.parents):
                if candidate in below:
                    below[candidate].append(item)
                    break
    return below


def _row_items(row: ManifestRow, below: dict[Path, list[Item]]) -> Iterator[Item]:
    name = row.item_id or row.path.name.split(".")[0] or row.where
    if not row.path.name:
        yield Item(name, (), problem=f"{row.where}: the path is empty")
        return
    if row.path not in below:
        yield Item(name, (row.path,), problem=f"{row.where}: {row.path.name} does not exist")
        return
    found = below[row.path]
    if not found:
        yield Item(name, (row.path,), problem=f"{row.where}: nothing that can be read was found in {row.path.name}")
    for item in found:
        name = item.item_id if not row.item_id else row.item_id if len(found) == 1 else f"{row.item_id}_{item.item_id}"
        yield replace(item, item_id=name, detail={**item.detail, **row.detail})


Rows = Iterator[tuple[int, dict[str, Any]]]


def _read_delimited(path: Path) -> Rows:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
        for row in reader:
            yield reader.line_num, {name: value for name, value in row.items() if isinstance(name, str)}


def _read_parquet(path: Path) -> Rows:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    # What is no single value is nothing that a manifest tells; embeddings would take long to unpack.
    names = [name for name in table.column_names if not pa.types.is_nested(table.schema.field(name).type)]
    for number, row in enumerate(table.select(names).to_pylist(), start=1):
        yield number, {name.lower(): value for name, value in row.items()}


def _read_json_lines(path: Path) -> Rows:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip():
            row = json.loads(line)
            if not isinstance(row, dict):
                raise ValueError(f"line {number} is no JSON object")
            yield number, row


def _read_lines(path: Path) -> Rows:
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, {"path": line}


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".csv": _read_delimited,
    ".tsv": _read_delimited,
    ".parquet": _read_parquet,
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".txt": _read_lines,
    ".lst": _read_lines,
}
