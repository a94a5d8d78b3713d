"""A table of patients: one row each after the rows of their slides were joined, features as a matrix of numbers."""

from __future__ import annotations

import fnmatch
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipelines.caseids import normal_identifier, some
from pipelines.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["FeatureTable", "load_features", "load_table", "match_columns"]

_LARGEST = 2 * 2**30
_ENDINGS = (".csv", ".tsv", ".txt", ".parquet", ".pq")


@dataclass(frozen=True)
class FeatureTable:
    """Features of patients.

    Attributes:
        case_ids: `N` identifiers.
        names: `F` columns.
        values: `(N, F)` float32, NaN where a cell is empty.
    """

    case_ids: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.float32]

    def row(self, case_id: str) -> NDArray[np.float32] | None:
        """Features of one patient `(F,)`, None where the table does not have it."""
        place = self._places.get(case_id)
        return None if place is None else self.values[place]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {case_id: place for place, case_id in enumerate(self.case_ids)}


def load_table(path: Path, *, case_id: str) -> pd.DataFrame:
    """All rows as they are; identifiers are text.

    Raises:
        DataError: There is no such table, it cannot be read, or it has no column of identifiers.
    """
    status = _status(path)
    frame = _load(path, status)
    if case_id not in frame.columns:
        near = some(list(map(str, frame.columns[:8])))
        raise DataError(f"{path.name} has no column {case_id!r} (data.case_id)", hint=f"Its columns begin with {near}.")
    return frame


def load_features(path: Path, *, case_id: str, names: Sequence[str]) -> FeatureTable:
    """The features of each patient; the table is read once and kept while its file stays as it is.

    Raises:
        DataError: A column is missing, a cell is no number, or rows of one patient differ.
    """
    return _features(path, _status(path), case_id, tuple(names))


def match_columns(columns: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Columns that fit a name or pattern, in the order of the table, each once.

    Raises:
        DataError: A name without `*` is no column.
    """
    missing = [one for one in patterns if "*" not in one and one not in columns]
    if missing:
        raise DataError(f"no column {some(map(repr, missing))}", hint="Check data.features, data.covariates.")
    return tuple(name for name in columns if any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))


def _status(path: Path) -> tuple[int, int]:
    if not path.is_file():
        raise DataError(f"no table {path.name!r} in the folder {path.parent.name!r}", hint="Check `data.file`.")
    found = path.stat()
    if found.st_size > _LARGEST:
        raise DataError(f"{path.name} has {found.st_size / 2**20:.0f} MiB; a table of patients has at most 2048")
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4)
def _load(path: Path, status: tuple[int, int]) -> pd.DataFrame:
    import pandas as pd

    name, content = path.name, None
    if path.suffix.lower() == ".zip":
        name, content = _unzip(path)
    source = path if content is None else io.BytesIO(content)
    ending = PurePath(name).suffix.lower()
    try:
        if ending in (".parquet", ".pq"):
            frame = pd.read_parquet(source)
        elif ending in _ENDINGS or ending == ".zip":  # MCAT's archives hold a plain CSV that is called `.csv.zip`
            frame = pd.read_csv(source, sep="\t" if ending == ".tsv" else ",", low_memory=False, compression=None)
        else:
            raise DataError(f"{name}: not a table that can be read; use {', '.join(_ENDINGS[:2])} or .parquet")
    except (ValueError, OSError, UnicodeDecodeError, pd.errors.ParserError) as error:
        told = " ".join(str(error).split())[:200]
        raise DataError(f"{path.name} cannot be read as a table: {told}", hint="Save it as UTF-8 CSV.") from error
    frame.columns = [str(column).strip() for column in frame.columns]
    if not frame.columns.is_unique:
        twice = dict.fromkeys(frame.columns[frame.columns.duplicated()])
        raise DataError(f"{path.name}: columns stand twice: {some(twice)}")
    return frame


def _unzip(path: Path) -> tuple[str, bytes]:
    """Name and content of the one file in an archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [
                one for one in archive.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX")
            ]
            if len(members) != 1:
                raise DataError(f"{path.name} holds {len(members)} files; a zipped table is one")
            if members[0].file_size > _LARGEST:
                raise DataError(f"{members[0].filename} has {members[0].file_size / 2**20:.0f} MiB; allowed are 2048")
            return members[0].filename, archive.read(members[0])
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{path.name} is no zip file that can be read: {error}") from error


@lru_cache(maxsize=4)
def _features(path: Path, status: tuple[int, int], case_id: str, names: tuple[str, ...]) -> FeatureTable:
    import pandas as pd

    frame = load_table(path, case_id=case_id)
    missing = [name for name in names if name not in frame.columns]
    if missing:
        raise DataError(
            f"{path.name} lacks {len(missing)} of {len(names)} columns that the model looks at: {some(missing)}",
            hint="Give the table the columns of the training table; a column without values may stay empty.",
        )
    chosen = frame[list(names)]
    numbers = chosen.apply(pd.to_numeric, errors="coerce") if not _numeric(chosen) else chosen
    values = numbers.to_numpy(dtype=np.float64, na_value=np.nan)
    wrong = (np.isnan(values) & chosen.notna().to_numpy()) | np.isinf(values)
    if wrong.any():
        row, column = (int(places[0]) for places in np.nonzero(wrong))
        found = str(chosen.iat[row, column])
        raise DataError(f"{path.name}: {names[column]} in line {row + 2} is {found!r}, not a number")
    identifiers = [normal_identifier(str(one)) for one in frame[case_id]]
    first: dict[str, int] = {}
    for row, identifier in enumerate(identifiers):
        same = first.setdefault(identifier, row)
        if same != row and not np.array_equal(values[same], values[row], equal_nan=True):
            column = int(np.flatnonzero(~_equal(values[same], values[row]))[0])
            raise DataError(
                f"{path.name}: lines {same + 2} and {row + 2} are both of {identifier} and differ in {names[column]}",
                hint="Rows of one patient are its slides; what was measured of the patient must be the same.",
            )
    rows = list(first.values())
    return FeatureTable(tuple(first), names, values[rows].astype(np.float32))


def _numeric(frame: pd.DataFrame) -> bool:
    import pandas as pd

    return all(pd.api.types.is_numeric_dtype(kind) for kind in frame.dtypes)


def _equal(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.asarray((one == other) | (np.isnan(one) & np.isnan(other)))
