"""Cases from a table that the user writes (CSV or Parquet), and cases written as one."""

from __future__ import annotations

import csv
import difflib
import io
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from pipelines.caseids import (
    GroupPattern,
    common_root,
    group_by_pattern,
    identifier_problem,
    normal_identifier,
    some,
)
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.config.paths import FilePath
from pipelines.config.section import Section
from pipelines.errors import DataError
from pipelines.runs import write_atomically
from pipelines.tablefiles import Rows, load_rows

__all__ = ["TableData", "read_table", "write_cases"]

_PART_NAMES = {
    "": "",
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "test": "test",
    "testing": "test",
}
_PATH_COLUMNS = ("image", "label", "mask")
_MOST_PROBLEMS = 20
_IN_BRACES = re.compile(r"\{([^{}]+)\}")


class TableData(Section):
    """A CSV or Parquet file: one row for each case, with its files and what is known of it."""

    format: Literal["table"] = "table"
    """A table that you write."""
    file: FilePath
    """The table: `.csv`, `.tsv` or `.parquet`, with one header row."""
    root: FilePath | None = None
    """Folder that the paths in the table are relative to; empty: the folder of the table."""
    case_id: str = "case_id"
    """Column of the case identifiers."""
    group: str = "group"
    """Column of what must stay together (patient, subject, source); without it each case is its own group."""
    group_pattern: GroupPattern | None = None
    """Regular expression that finds the group in the case id, in place of a column, for example `(patient\\d+)`."""
    split: str = "split"
    """Column that says `train`, `validation` or `test`; empty cells, or no such column, leave it to be drawn."""
    paths: dict[str, str] = Field(default={})
    """Role → column of files, or a path made from columns: `{image: t1_file, label: "labels/{subject}.nii.gz"}`.
    Empty: the columns named `image`, `image_0`, `image_1`, …, `label` and `mask`."""
    labels: tuple[str, ...] | None = None
    """Columns kept as labels of the case; empty: every column that is nothing else."""


@dataclass(frozen=True)
class _Roles:
    """Which column is what."""

    case_id: str
    group: str | None
    split: str | None
    paths: Mapping[str, str]
    labels: tuple[str, ...]


@dataclass
class _Reading:
    """Cases read so far, and everything found wrong on the way."""

    cases: list[Case] = field(default_factory=list)
    excluded: list[Excluded] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    first_seen: dict[str, str] = field(default_factory=dict)


def read_table(settings: TableData) -> CaseTable:
    """Reads the cases of a table.

    A case whose `label` cell is empty is set aside. All else that is wrong is reported at once, by row.

    Raises:
        DataError: The table cannot be read, a column is missing, an identifier is empty, unsafe or repeated, a part is
            unknown, or a file is not there.
    """
    table = load_rows(settings.file)
    roles = _roles(table, settings)
    reading = _Reading()
    folder = settings.root or settings.file.parent
    labels = {name: _typed([cells[name] for _, cells in table.rows]) for name in roles.labels}
    for index, (where, cells) in enumerate(table.rows):
        _read_row(
            where, cells, {name: column[index] for name, column in labels.items()}, roles, settings, folder, reading
        )
    if reading.problems:
        raise DataError(
            f"{settings.file.name}: {len(reading.problems)} problems\n  "
            + some(reading.problems, limit=_MOST_PROBLEMS, separator="\n  "),
            hint="Mend the table; paths are relative to its folder (or to `root`).",
        )
    if not reading.cases:
        raise DataError(
            f"{settings.file.name}: no case can be used; {len(reading.excluded)} have no label"
            if reading.excluded
            else f"{settings.file.name}: the table has no rows",
            hint="Add rows, and name each case's files in them.",
        )
    root = common_root(folder, (path for case in reading.cases for path in case.paths.values()))
    return CaseTable(tuple(reading.cases), root, settings.file.stem, tuple(reading.excluded))


def write_cases(table: CaseTable, path: Path, *, facts: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Writes a table as CSV that `read_table` reads again: paths relative to the table's root, never absolute ones.

    Args:
        table: The cases.
        path: Where to.
        facts: Case id → further columns, for example shape and spacing.
    """
    facts = facts or {}
    roles = list(dict.fromkeys(role for case in table for role in case.paths))
    labels = [name for name in dict.fromkeys(name for case in table for name in case.labels) if name not in roles]
    known = {"case_id", "group", "split", *labels, *roles}
    extra = [name for name in dict.fromkeys(name for row in facts.values() for name in row) if name not in known]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["case_id", "group", "split", *labels, *extra, *roles])
    for case in table:
        files = (_told(case.paths[role], table.root) if role in case.paths else "" for role in roles)
        found = facts.get(case.case_id, {})
        known_values = (_cell(case.labels.get(name)) for name in labels)
        writer.writerow(
            [case.case_id, case.group, case.split, *known_values, *(_cell(found.get(name)) for name in extra), *files]
        )
    write_atomically(path, text.getvalue())


def _told(path: Path, root: Path) -> str:
    """The path below the root; a file elsewhere is told by its name alone."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _cell(value: Any) -> str:
    return "" if value is None else str(value)


def _roles(table: Rows, settings: TableData) -> _Roles:
    """Finds out which column is what, or reports every column that is missing, repeated or misspelt."""
    columns = table.columns
    problems = [f"column {name!r} stands twice" for name in dict.fromkeys(columns) if columns.count(name) > 1]
    problems += [f"column {number} has no name" for number, name in enumerate(columns, start=1) if not name]
    set_by_user = settings.model_fields_set
    paths = settings.paths or {name: name for name in columns if _is_path_column(name)}
    wanted = {f"paths.{role}": name for role, written in settings.paths.items() for name in _columns_of(written)}
    wanted |= {key: getattr(settings, key) for key in ("group", "split") if key in set_by_user}
    wanted["case_id"] = settings.case_id
    missing = [(key, name) for key, name in wanted.items() if name not in columns]
    missing += [("labels", name) for name in settings.labels or () if name not in columns]
    problems += [f"no column {name!r} (data.{key}){_nearest(name, columns)}" for key, name in missing]
    if not paths:
        problems.append("no column of files: name one `image`, or say which it is with data.paths")
    taken = {settings.case_id, settings.group, settings.split, *paths.values()}
    free = [name for name in columns if name not in taken]
    if settings.labels is None:
        reserved = {settings.case_id, settings.group, settings.split, *_PATH_COLUMNS} - set(columns)
        problems += [f"unknown column {name!r}{_nearest(name, reserved)}" for name in free if _nearest(name, reserved)]
    if problems:
        raise DataError(
            f"{settings.file.name}: " + "; ".join(problems),
            hint=f"The table has: {', '.join(columns) or 'no columns'}.",
        )
    return _Roles(
        case_id=settings.case_id,
        group=settings.group if settings.group in columns else None,
        split=settings.split if settings.split in columns else None,
        paths=paths,
        labels=tuple(free) if settings.labels is None else settings.labels,
    )


def _is_path_column(name: str) -> bool:
    return name in _PATH_COLUMNS or (name.startswith("image_") and name.removeprefix("image_").isdecimal())


def _columns_of(written: str) -> list[str]:
    """The columns behind a role: named in braces, or the text itself."""
    return _IN_BRACES.findall(written) or [written]


def _path_text(written: str, cells: Mapping[str, str]) -> str:
    """The path of one row; empty where a cell that it is made from is empty."""
    if not all(cells[name] for name in _columns_of(written)):
        return ""
    return _IN_BRACES.sub(lambda found: cells[found.group(1)], written) if "{" in written else cells[written]


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, [item for item in known if item], n=1, cutoff=0.75)
    return f"; did you mean {close[0]!r}?" if close else ""


def _read_row(
    where: str,
    cells: Mapping[str, str],
    labels: Mapping[str, Any],
    roles: _Roles,
    settings: TableData,
    folder: Path,
    reading: _Reading,
) -> None:
    case_id = normal_identifier(cells[roles.case_id])
    problems = [identifier_problem(case_id)]
    if case_id in reading.first_seen:
        problems.append(f"case_id {case_id!r} stands in {reading.first_seen[case_id]} already")
    reading.first_seen.setdefault(case_id, where)
    group = group_by_pattern(case_id, settings.group_pattern)
    if roles.group is not None and settings.group_pattern is None:
        group = normal_identifier(cells[roles.group]) or case_id
    if case_id and not group:
        problems.append(f"group_pattern {settings.group_pattern!r} finds nothing in {case_id!r}")
    part = _PART_NAMES.get(cells[roles.split].lower()) if roles.split is not None else ""
    if part is None:
        problems.append(f"unknown part {cells[roles.split or '']!r}; use train, validation or test")
    named = {role: _path_text(written, cells) for role, written in roles.paths.items()}
    paths = {role: Path(os.path.abspath(folder / text)) for role, text in named.items() if text}
    problems += [f"no file {named[role]!r} ({role})" for role, path in paths.items() if not path.exists()]
    problems += [f"no {role} named" for role, text in named.items() if not text and role.startswith("image")]
    problems = [problem for problem in problems if problem]
    reading.problems.extend(f"{where}: {problem}" for problem in problems)
    if not problems and "label" in named and "label" not in paths:
        reading.excluded.append(Excluded(case_id, "no label", f"Name its label file in {where}, or remove the row."))
    elif not problems:
        reading.cases.append(Case(case_id, group, paths, dict(labels), part or ""))


def _typed(texts: Sequence[str]) -> list[Any]:
    """Numbers where every cell that is filled is one; None where a cell is empty."""
    for kind in (int, float):
        try:
            values = [kind(text) if text else None for text in texts]
        except ValueError:
            continue
        if all(value is None or math.isfinite(value) for value in values):
            # An identifier such as 007 is a name, not a number.
            padded = any(text.lstrip("+-").startswith("0") and text.lstrip("+-")[1:2].isdecimal() for text in texts)
            return [text or None for text in texts] if padded else values
    return [text or None for text in texts]
