"""The predictions of many patients as one table."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipelines.task import FinishedItem

__all__ = ["join_patients"]


def join_patients(results: Sequence[FinishedItem], folder: Path, model_digest: str) -> None:
    """Writes `patients.csv`: risk, median survival and survival at the end of each interval, the highest risk first."""
    rows = [_row(result) for result in results]
    if not rows:
        return
    rows.sort(key=lambda row: -row["risk"])
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    (folder / "patients.csv").write_text(text.getvalue(), encoding="utf-8")


def _row(result: FinishedItem) -> dict[str, Any]:
    record = json.loads((result.folder / f"{result.item_id}.json").read_text(encoding="utf-8"))
    median = record["median_survival"]
    row = {
        "patient": result.item_id,
        "risk": record["risk"],
        f"median_survival_{record['unit']}": "" if median is None else median,
        "missing_features": record["missing_features"],
    }
    for interval in record["intervals"]:
        end = record["survival_to"] if interval["until"] is None else interval["until"]
        row[f"survival_at_{end:g}"] = interval["survival"]
    return row
