"""A cross-validation fold by fold: how far the numbers of its runs lie apart."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from pipelines.reporting.contents import OVER_CLASSES
from pipelines.reporting.glossary import Metric

__all__ = ["fold_table"]


def fold_table(rows: Sequence[Mapping[str, str]], metrics: Sequence[Metric]) -> list[dict[str, Any]]:
    """Mean, standard deviation, lowest and highest number over the folds, by metric; empty without folds.

    Args:
        rows: `repeat, fold, class, metric, value, cases` as `evaluation/folds.csv` has them.
        metrics: What the metrics are called, in the order of the table.
    """
    table = []
    for metric in metrics:
        own = [row for row in rows if row.get("metric") == metric.name]
        classes = list(dict.fromkeys(row.get("class", "") for row in own))
        named = OVER_CLASSES if OVER_CLASSES in classes else (classes[0] if len(classes) == 1 else "")
        values = [value for row in own if row.get("class") == named and not math.isnan(value := _number(row))]
        if not values:
            continue
        table.append(
            {
                "label": f"{metric.label} ({metric.unit})" if metric.unit else metric.label,
                "mean": statistics.fmean(values),
                "deviation": statistics.stdev(values) if len(values) > 1 else math.nan,
                "low": min(values),
                "high": max(values),
                "count": len(values),
                "undefined": sum(row.get("class") == named for row in own) - len(values),
            }
        )
    return table


def _number(row: Mapping[str, str]) -> float:
    try:
        return float(row.get("value", ""))
    except ValueError:
        return math.nan
