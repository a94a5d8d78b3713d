"""What the per-case table says: order of cases, failures, undefined values, strips and tables."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pipelines.reporting.charts import Dot, Strip
from pipelines.reporting.contents import OVER_CLASSES, CaseValue, RunContents, Summary
from pipelines.reporting.glossary import Metric, describe_metric

__all__ = ["Judged", "anchor"]

_MOST_DOTS = 1500
_MARKED = 3


def anchor(case_id: str) -> str:
    """The name of a case's place in the page."""
    return "case-" + re.sub(r"[^\w.-]", lambda match: f"_{ord(match.group()):x}", case_id)


@dataclass(frozen=True)
class CaseScore:
    """A case and its mean over classes of the first metric."""

    case_id: str
    score: float
    failed: str = ""


class Judged:
    """Views of the judged cases of one run.

    Args:
        contents: What was read from the run folder.
    """

    def __init__(self, contents: RunContents) -> None:
        self._contents = contents
        self._values = {(value.case_id, value.class_name, value.metric): value for value in contents.values}
        self.metrics = [
            describe_metric(name, _mapping(contents.metrics.get(name)))
            for name in _in_order(value.metric for value in contents.values)
        ]
        self.classes = list(_in_order(value.class_name for value in contents.values))
        self.case_ids = list(_in_order(value.case_id for value in contents.values))
        self.summed = [
            describe_metric(name, _mapping(contents.metrics.get(name)))
            for name in _in_order(row.metric for row in contents.summaries)
        ]
        self.first = self._find(("ranking_metric", "selection_metric"), self.metrics)
        first = (metric for metric in self.summed if _mapping(contents.metrics.get(metric.name)).get("headline"))
        self.headline = next(first, None) or self._find(("selection_metric",), self.summed)
        self.ranked = self._ranked()

    @property
    def failures(self) -> dict[str, str]:
        """Case → why it has no prediction."""
        return {
            value.case_id: value.note.removeprefix("failed").lstrip(": ") or "no reason was noted"
            for value in reversed(self._contents.values)
            if value.failed
        }

    def undefined(self) -> list[tuple[str, list[str], str, int]]:
        """`(class, metrics, note, cases)` where values are not defined; metrics with the same counts stand together."""
        counted: dict[tuple[str, str, str], int] = {}
        for value in self._contents.values:
            if math.isnan(value.value):
                label = describe_metric(value.metric, _mapping(self._contents.metrics.get(value.metric))).label
                key = (value.class_name, label, value.note or "not defined")
                counted[key] = counted.get(key, 0) + 1
        together: dict[tuple[str, str, int], list[str]] = {}
        for (class_name, label, note), count in counted.items():
            together.setdefault((class_name, note, count), []).append(label)
        return [(class_name, labels, note, count) for (class_name, note, count), labels in together.items()]

    def noted(self) -> dict[str, int]:
        """Other notes (`missed`, `invented`) → number of structures."""
        if self.first is None:
            return {}
        counted: dict[str, int] = {}
        for value in self._contents.values:
            if value.metric == self.first.name and value.note and not value.failed and not math.isnan(value.value):
                counted[value.note] = counted.get(value.note, 0) + 1
        return counted

    def summary(self, class_name: str, metric: str) -> Summary | None:
        """Mean and interval of a class and metric."""
        return next(
            (row for row in self._contents.summaries if (row.class_name, row.metric) == (class_name, metric)), None
        )

    def of_cases(self) -> list[Metric]:
        """Metrics that single cases have, among those with a mean."""
        own = {metric.name for metric in self.metrics}
        return [metric for metric in self.summed if metric.name in own]

    def of_the_set(self) -> list[Metric]:
        """Metrics that only all cases together have (an area under a curve)."""
        own = {metric.name for metric in self.metrics}
        return [metric for metric in self.summed if metric.name not in own]

    def summary_classes(self, metrics: Sequence[Metric]) -> list[str]:
        """Classes that have a mean of one of these metrics, what is summed over them last.

        What is summed over a single class is the class, and is not told twice.
        """
        names = {metric.name for metric in metrics}
        rows = [(row.class_name, row.metric) for row in self._contents.summaries if row.metric in names]
        listed = list(_in_order(class_name for class_name, _ in rows))
        own = [name for name in listed if name != OVER_CLASSES]
        if len(own) == 1 and all((own[0], metric) in rows for _, metric in rows):
            return own
        return own + [name for name in listed if name == OVER_CLASSES]

    def strips(self, metric: Metric) -> list[Strip]:
        """One strip for each class of a metric."""
        return [self._strip(class_name, metric) for class_name in self.classes]

    def case_table(self) -> list[dict[str, Any]]:
        """Every case, worst first, with a cell for each class and metric."""
        return [
            {
                "case_id": case.case_id,
                "anchor": anchor(case.case_id),
                "failed": case.failed,
                "cells": [
                    self._values.get((case.case_id, class_name, metric.name))
                    for metric in self.metrics
                    for class_name in self.classes
                ],
            }
            for case in self.ranked
        ]

    def scores(self, case_id: str) -> list[tuple[str, str, CaseValue]]:
        """`(class, metric label, value)` of one case."""
        return [
            (class_name, metric.label, self._values[key])
            for class_name in self.classes
            for metric in self.metrics
            if (key := (case_id, class_name, metric.name)) in self._values
        ]

    def _find(self, roles: Sequence[str], among: Sequence[Metric]) -> Metric | None:
        """The first metric that the run names in one of these roles; else the first that has a better and a worse."""
        for role in roles:
            wanted = str(self._contents.status.get(role, ""))
            named = next((metric for metric in among if metric.name == wanted), None)
            if named is not None:
                return named
        return next((metric for metric in among if metric.better), None) or next(iter(among), None)

    def _ranked(self) -> list[CaseScore]:
        if self.first is None:
            return []
        failures = self.failures
        sign = -1.0 if self.first.better == "lower" else 1.0
        scored = []
        for case_id in self.case_ids:
            values = [
                self._values[key].value
                for class_name in self.classes
                if (key := (case_id, class_name, self.first.name)) in self._values
            ]
            known = [value for value in values if not math.isnan(value)]
            scored.append(CaseScore(case_id, sum(known) / len(known) if known else math.nan, failures.get(case_id, "")))
        return sorted(
            scored,
            key=lambda case: (not case.failed, math.isnan(case.score), sign * case.score if known_score(case) else 0),
        )

    def _strip(self, class_name: str, metric: Metric) -> Strip:
        sign = -1.0 if metric.better == "lower" else 1.0
        values = [
            value
            for case_id in self.case_ids
            if (value := self._values.get((case_id, class_name, metric.name))) is not None
        ]
        drawn = sorted((value for value in values if not math.isnan(value.value)), key=lambda value: sign * value.value)
        worst = {value.case_id for value in drawn[:_MARKED]} if metric.better else set()
        shown = drawn if len(drawn) <= _MOST_DOTS else [*drawn[:_MARKED], *_spread(drawn[_MARKED:], _MOST_DOTS)]
        summary = self.summary(class_name, metric.name)
        undefined = len(values) - len(drawn)
        return Strip(
            name=class_name,
            dots=[
                Dot(
                    value.value,
                    f"{value.case_id}: {metric.label} {value.value:.4g}{f' ({value.note})' if value.note else ''}",
                    link=f"#{anchor(value.case_id)}" if value.case_id in worst else "",
                    marked=value.case_id in worst,
                )
                for value in shown
            ],
            mean=summary.mean if summary else math.nan,
            low=summary.low if summary else math.nan,
            high=summary.high if summary else math.nan,
            note=f"{len(drawn)} cases" + (f", {undefined} undefined" if undefined else ""),
        )


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def known_score(case: CaseScore) -> bool:
    """Whether a case has a score to be ordered by."""
    return not math.isnan(case.score)


def _in_order(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(names))


def _spread(values: Sequence[CaseValue], most: int) -> list[CaseValue]:
    stride = math.ceil(len(values) / most)
    return list(values[::stride])
