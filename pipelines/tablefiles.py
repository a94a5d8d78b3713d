"""CSV and Parquet files as text cells that know where they stand, so that a complaint can name the line."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipelines.caseids import some
from pipelines.errors import DataError

__all__ = ["Rows", "load_rows"]

_MOST_PROBLEMS = 20
_LARGEST_FILE = 512 * 2**20


@dataclass(frozen=True)
class Rows:
    """A table as text: its columns, and for each row where it stands in the file (`line 2`, `row 1`) and its cells."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, Mapping[str, str]], ...]


def load_rows(path: Path) -> Rows:
    """Reads a table. In CSV the delimiter is the commonest of `,`, `;` and tab in the header; empty lines are skipped.

    Raises:
        DataError: There is no such file, it is none of `.csv`, `.tsv` and `.parquet`, or it cannot be read.
    """
    if not path.is_file():
        raise DataError(f"no table {path.name!r} in the folder {path.parent.name!r}", hint="Check `data.file`.")
    if path.stat().st_size > _LARGEST_FILE:
        raise DataError(f"{path.name} has {path.stat().st_size / 2**20:.0f} MiB; a table of cases has at most 512")
    if path.suffix.lower() in {".parquet", ".pq"}:
        return _load_parquet(path)
    if path.suffix.lower() in {".csv", ".tsv", ".txt"}:
        return _load_csv(path)
    raise DataError(f"{path.name}: not a table that can be read; use .csv, .tsv or .parquet")


def _load_csv(path: Path) -> Rows:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path.name} is not UTF-8 text: {error.reason}", hint="Save it as UTF-8 CSV.") from error
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows: list[tuple[str, Mapping[str, str]]] = []
    columns: tuple[str, ...] = ()
    problems = []
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if not columns:
                columns = tuple(cell.strip() for cell in cells)
                continue
            if len(cells) != len(columns):
                problems.append(f"line {reader.line_num}: {len(cells)} cells, the header has {len(columns)}")
            padded = [*cells, *[""] * len(columns)]
            rows.append((f"line {reader.line_num}", dict(zip(columns, map(str.strip, padded), strict=False))))
    except csv.Error as error:
        raise DataError(f"{path.name}: line {reader.line_num}: {error}", hint="Save it as UTF-8 CSV.") from error
    if problems:
        raise DataError(
            f"{path.name}: {len(problems)} rows do not fit the header\n  "
            + some(problems, limit=_MOST_PROBLEMS, separator="\n  "),
            hint="Put quotation marks around cells that hold the delimiter.",
        )
    return Rows(columns, tuple(rows))


def _load_parquet(path: Path) -> Rows:
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path.name} cannot be read as Parquet: {error}") from error
    # pandas keeps an unnamed index under this name; it holds nothing that the user wrote.
    keep = [number for number, name in enumerate(table.column_names) if not name.startswith("__index_level_")]
    columns = tuple(table.column_names[number] for number in keep)
    values = [table.column(number).to_pylist() for number in keep]
    rows = tuple(
        (f"row {number}", {name: _text(cell) for name, cell in zip(columns, cells, strict=True)})
        for number, cells in enumerate(zip(*values, strict=True), start=1)
    )
    return Rows(columns, rows)


def _text(value: object) -> str:
    missing = value is None or value != value
    return "" if missing else str(value).strip()
