"""The patients of a survival workflow, as cases with their times, events and given folds."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.medical.survival.data_settings import BagFiles, PatientData
from domains.medical.survival.patients import load_table
from pipelines.caseids import common_root, identifier_problem, normal_identifier, some
from pipelines.cases import Case, CaseTable, Excluded
from pipelines.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TABLE", "bag_path", "read_folds", "read_patients"]

TABLE = "container"
"""Role of the table that all patients share."""

_SPLIT_FILE = re.compile(r"splits_(\d+)\.csv")
_SLIDE_ENDINGS = (".svs", ".ndpi", ".tif", ".tiff", ".mrxs", ".scn", ".svslide", ".bif", ".dcm", ".czi", ".qptiff")


def read_patients(settings: PatientData) -> CaseTable:
    """Reads the patients of a table.

    Labels of a case: `time`, `event` (0 or 1), `fold` where folds are given, and the columns that `labels` names. A
    patient without a time, or with one that is not above zero, is set aside.

    Raises:
        DataError: A column is missing, a value is not what it should be, or rows of one patient differ.
    """
    frame = load_table(settings.file, case_id=settings.case_id)
    _need_columns(frame, settings)
    outcome = settings.event or str(settings.censored)
    kept = dict.fromkeys(
        [*settings.labels, *([settings.group] if settings.group else []), *([settings.fold] if settings.fold else [])]
    )
    rows = _rows_of_patients(frame, settings, [settings.time, outcome, *kept])
    folds = read_folds(settings.folds) if settings.folds is not None else None
    cases, excluded, problems = [], [], []
    for case_id, numbers in rows.items():
        row = frame.iloc[numbers[0]]
        problem = identifier_problem(case_id)
        event, trouble = _event(row[outcome], outcome, inverted=settings.event is None)
        time = _number(row[settings.time])
        if problem or trouble:
            problems.append(f"line {numbers[0] + 2}: {problem or trouble}")
            continue
        if time is None or event is None or not time > 0:
            what = f"{settings.time} is {row[settings.time]!r}" if event is not None else f"{outcome} is empty"
            excluded.append(Excluded(case_id, f"{what}: no outcome", "A time is a number above zero."))
            continue
        labels: dict[str, Any] = {"time": time, "event": event}
        fold = _fold(case_id, row, settings, folds, problems)
        labels |= {} if fold is None else {"fold": fold}
        labels |= {name: _plain(row[name]) for name in settings.labels}
        group = normal_identifier(str(row[settings.group])) if settings.group else case_id
        paths = {TABLE: settings.file} | _bag_paths(frame, numbers, settings)
        cases.append(Case(case_id, group, paths, labels))
    if problems:
        listed = some(problems, limit=20, separator="\n  ")
        raise DataError(f"{settings.file.name}: {len(problems)} problems\n  {listed}", hint="Mend the table.")
    if not cases:
        raise DataError(f"{settings.file.name}: no patient has an outcome", hint="Check data.time and data.censored.")
    root = common_root(settings.file.parent, (path for case in cases for path in case.paths.values()))
    return CaseTable(tuple(cases), root, settings.file.name.split(".")[0], tuple(excluded))


def read_folds(folder: Path) -> dict[str, int]:
    """Patient → the number of the split file that has it under `val` or `test`.

    Raises:
        DataError: There is no split file, one cannot be read, or a patient is in the test part of two.
    """
    import pandas as pd

    found = {int(match[1]): file for file in folder.glob("*.csv") if (match := _SPLIT_FILE.fullmatch(file.name))}
    if not found:
        raise DataError(f"no splits_0.csv in the folder {folder.name!r}", hint="Check data.folds.")
    fold_of: dict[str, int] = {}
    for number in sorted(found):
        frame = pd.read_csv(found[number], dtype=str)
        column = next((name for name in ("test", "val") if name in frame.columns), None)
        if column is None:
            raise DataError(f"{found[number].name} has neither a column 'val' nor 'test'")
        for case_id in frame[column].dropna():
            name = normal_identifier(case_id)
            if fold_of.setdefault(name, number) != number:
                raise DataError(f"{name} is in the test part of splits_{fold_of[name]}.csv and splits_{number}.csv")
    return fold_of


def bag_path(text: str, settings: BagFiles, folder: Path) -> Path:
    """The file of a bag from the cell that names it or its slide: in the folder, or in one of its name therein."""
    if settings.suffix:
        ending = PurePath(text).suffix
        text = (text[: -len(ending)] if ending.lower() in _SLIDE_ENDINGS else text) + settings.suffix
    path = (settings.folder or folder) / text
    nested = path.parent / path.stem / path.name  # as `pulvinar slides features` lays them
    return nested if nested.is_file() and not path.is_file() else path


def _need_columns(frame: pd.DataFrame, settings: PatientData) -> None:
    keys = ("time", "event", "censored", "group", "fold")
    wanted = {key: getattr(settings, key) for key in keys if getattr(settings, key) is not None}
    if settings.event is not None:
        wanted.pop("censored", None)
    if isinstance(settings.bags, BagFiles):
        wanted["bags.column"] = settings.bags.column
    missing = [f"{name!r} (data.{key})" for key, name in wanted.items() if name not in frame.columns]
    missing += [f"{name!r} (data.labels)" for name in settings.labels if name not in frame.columns]
    if missing:
        near = some([str(column) for column in frame.columns if not str(column).endswith(("_rnaseq", "_cnv", "_mut"))])
        raise DataError(f"{settings.file.name}: no column {', '.join(missing)}", hint=f"It has, among others: {near}.")


def _rows_of_patients(frame: pd.DataFrame, settings: PatientData, agreeing: Sequence[str]) -> dict[str, list[int]]:
    """Identifier → numbers of its rows. Raises `DataError` where they do not agree."""
    rows: dict[str, list[int]] = {}
    for number, cell in enumerate(frame[settings.case_id]):
        rows.setdefault(normal_identifier("" if cell != cell else str(cell)), []).append(number)
    for case_id, numbers in rows.items():
        for name in agreeing:
            if len(numbers) > 1 and frame[name].iloc[np.array(numbers)].nunique(dropna=False) > 1:
                raise DataError(
                    f"{settings.file.name}: {case_id} has {len(numbers)} rows that differ in {name!r}",
                    hint="Rows of one identifier are slides of one patient; data.case_id may name another column.",
                )
    return rows


def _event(cell: Any, column: str, *, inverted: bool) -> tuple[int | None, str]:
    """1 where the event was seen, None where the cell is empty; and what is wrong."""
    value = _number(cell)
    if cell != cell or cell is None:
        return None, ""
    if value not in (0, 1):
        return None, f"{column} is {cell!r}; allowed are 0 and 1"
    return int(1 - value if inverted else value), ""


def _fold(
    case_id: str, row: pd.Series, settings: PatientData, folds: Mapping[str, int] | None, problems: list[str]
) -> int | None:
    if folds is not None:
        if case_id not in folds:
            problems.append(f"{case_id} is in the test part of no split file")
        return folds.get(case_id)
    if settings.fold is None:
        return None
    value = _number(row[settings.fold])
    if value is None or value < 0 or value != int(value):
        problems.append(f"{case_id}: {settings.fold} is {row[settings.fold]!r}; a fold is a whole number from 0")
        return None
    return int(value)


def _bag_paths(frame: pd.DataFrame, numbers: Sequence[int], settings: PatientData) -> dict[str, Path]:
    bags = settings.bags
    if not isinstance(bags, BagFiles):
        return {}
    cells = [frame[bags.column].iloc[number] for number in numbers]
    named = dict.fromkeys(str(cell).strip() for cell in cells if cell == cell and str(cell).strip())
    return {f"bag_{place}": bag_path(text, bags, settings.file.parent) for place, text in enumerate(named)}


def _number(cell: Any) -> float | None:
    if isinstance(cell, bool):
        return float(cell)
    try:
        value = float(cell)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _plain(cell: Any) -> Any:
    if cell is None or cell != cell:
        return None
    return cell.item() if hasattr(cell, "item") else cell
