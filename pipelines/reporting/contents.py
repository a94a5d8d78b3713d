"""Reads a run folder for its report: whatever is there, and a note of whatever is not."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.runs import RunFolder
from pipelines.tracking.privacy import Scrubber

__all__ = ["OVER_CLASSES", "CaseValue", "Picture", "RunContents", "Summary", "read_run"]

OVER_CLASSES = "mean"
"""The class under which a summary gives the mean over classes."""

PARTS = ("test", "validation", "train")
Row = dict[str, str]


@dataclass(frozen=True)
class CaseValue:
    """One judgement of the per-case table; `value` is NaN where the metric is not defined."""

    case_id: str
    class_name: str
    metric: str
    value: float
    note: str

    @property
    def failed(self) -> bool:
        """Whether the case has no prediction."""
        return self.note.startswith("failed")


@dataclass(frozen=True)
class Summary:
    """Mean and interval of one class and metric; `counts` holds what else the table says of it."""

    class_name: str
    metric: str
    mean: float
    low: float
    high: float
    counts: Mapping[str, int]


@dataclass(frozen=True)
class Picture:
    """One figure of the run folder."""

    name: str
    caption: str
    case_id: str
    file: Path


@dataclass
class RunContents:
    """All that a report is made of. Text is free of absolute paths."""

    name: str
    status: dict[str, Any] = field(default_factory=dict)
    config: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, str] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)
    cases: list[Row] = field(default_factory=list)
    splits: dict[str, Any] = field(default_factory=dict)
    excluded: list[Row] = field(default_factory=list)
    history: list[dict[str, float]] = field(default_factory=list)
    part: str = ""
    values: list[CaseValue] = field(default_factory=list)
    summaries: list[Summary] = field(default_factory=list)
    folds: list[Row] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    pictures: list[Picture] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)

    @property
    def synthetic(self) -> bool:
        """Whether the data were made by a program."""
        return bool(self.status.get("synthetic"))


def read_run(run: RunFolder) -> RunContents:
    """Reads everything that is there; what is missing or unreadable is named in `missing`."""
    reader = _Reader(run)
    status = reader.json(run.status, "status.json")
    config = reader.text(run.config, "the resolved configuration (config.yaml)")
    part = str(status.get("part", "")) or next(
        (part for part in PARTS if (run.evaluation / f"{part}.cases.csv").is_file()), ""
    )
    contents = RunContents(
        name=str(status.get("name") or run.root.resolve().name),
        status=status,
        config=config,
        settings=reader.yaml(run.config),
        provenance=reader.json(run.provenance, "where each setting came from (provenance.json)"),
        environment=reader.json(run.environment, "the environment (environment.json)"),
        cases=reader.table(run.cases, "the table of cases (cases.csv)"),
        splits=reader.json(run.splits, "" if run.folds.is_dir() else "how the cases were divided (splits.json)"),
        excluded=reader.table(run.excluded, ""),
        history=[
            {key: number for key, cell in row.items() if key and (number := _number(cell)) == number}
            for row in reader.table(run.history, "" if run.folds.is_dir() else "the training history (history.csv)")
        ],
        part=part,
    )
    if part:
        rows = reader.table(run.evaluation / f"{part}.cases.csv", "the judged cases")
        contents.values = [_case_value(row) for row in rows]
        rows = reader.table(run.evaluation / f"{part}.summary.csv", "means and intervals")
        contents.summaries = [_summary(row) for row in rows]
    else:
        reader.missing.append("the evaluation: no case has been judged yet")
    contents.folds = reader.table(run.evaluation / "folds.csv", "")
    contents.metrics = reader.json(run.evaluation / "metrics.json", "")
    contents.pictures = _pictures(run, reader)
    contents.missing = reader.missing
    return contents


class _Reader:
    def __init__(self, run: RunFolder) -> None:
        self.missing: list[str] = []
        self._scrubber = Scrubber(run.root, run.root.parent)

    def text(self, path: Path, what: str) -> str:
        try:
            return self._scrubber.text(path.read_text(encoding="utf-8", errors="replace"))
        except OSError:
            if what:
                self.missing.append(what)
            return ""

    def json(self, path: Path, what: str) -> dict[str, Any]:
        text = self.text(path, what)
        try:
            value = json.loads(text) if text else {}
        except ValueError:
            self.missing.append(f"{what}: it cannot be read")
            return {}
        return value if isinstance(value, dict) else {}

    def yaml(self, path: Path) -> dict[str, Any]:
        """The values of a file. It is read before it is scrubbed: what stands for a path need not be YAML."""
        import yaml

        try:
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return {}
        return self._scrubbed(value) if isinstance(value, dict) else {}

    def _scrubbed(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._scrubbed(entry) for key, entry in value.items()}
        if isinstance(value, list):
            return [self._scrubbed(entry) for entry in value]
        return self._scrubber.text(value) if isinstance(value, str) else value

    def table(self, path: Path, what: str) -> list[Row]:
        text = self.text(path, what)
        return [{key or "": cell or "" for key, cell in row.items()} for row in csv.DictReader(text.splitlines())]


def _case_value(row: Row) -> CaseValue:
    return CaseValue(
        case_id=row.get("case_id", ""),
        class_name=row.get("class", ""),
        metric=row.get("metric", ""),
        value=_number(row.get("value", "")),
        note=row.get("note", ""),
    )


def _summary(row: Row) -> Summary:
    known = {"class", "metric", "mean", "low", "high"}
    counts = {
        key: int(number)
        for key, cell in row.items()
        if key not in known and math.isfinite(number := _number(cell)) and number == int(number)
    }
    return Summary(
        class_name=row.get("class", ""),
        metric=row.get("metric", ""),
        mean=_number(row.get("mean", "")),
        low=_number(row.get("low", "")),
        high=_number(row.get("high", "")),
        counts=counts,
    )


def _pictures(run: RunFolder, reader: _Reader) -> list[Picture]:
    """The figures of `index.json` whose files are there, and lie in the folder of figures; a task may draw none."""
    text = reader.text(run.figures / "index.json", "")
    try:
        entries = json.loads(text)
    except ValueError:
        entries = None
    pictures = []
    for entry in entries if isinstance(entries, list) else []:
        name = str(entry.get("name", "")) if isinstance(entry, dict) else ""
        file = run.figures / f"{name}.png"
        if name and Path(name).name == name and file.is_file():
            pictures.append(Picture(name, str(entry.get("caption", "")), str(entry.get("case_id", "")), file))
    if not pictures and entries != []:
        reader.missing.append("pictures of judged cases (figures)")
    return pictures


def _number(cell: str) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError):
        return math.nan
