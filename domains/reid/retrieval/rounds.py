"""Judgement over rounds, in each of which another picture of every identity is searched (VehicleID).

The value of a picture is its mean over the rounds in which it asked. The number that VehicleID reports is the mean of
the rounds, each the mean of its queries: a picture that is drawn for the gallery more often weighs less there.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from domains.reid.retrieval.judgement import CLASS, judge_queries
from domains.reid.retrieval.roles import Roles
from domains.reid.retrieval.settings import RetrievalJudgeSettings
from pipelines.cases import Case
from pipelines.task import MetricRow, Observation

__all__ = ["Rounds"]

_REPORTED = ("map", "cmc_1", "cmc_5")


class Rounds:
    """What each picture came to in each round.

    Args:
        rounds: Queries and gallery of each.
        observed: Case id → `embedding` `(D,)`.
        settings: How embeddings are compared.
    """

    def __init__(
        self, rounds: Sequence[Roles], observed: Mapping[str, Observation], settings: RetrievalJudgeSettings
    ) -> None:
        self._values: dict[str, dict[str, NDArray[np.float64]]] = defaultdict(dict)
        notes: dict[str, set[str]] = defaultdict(set)
        for number, roles in enumerate(rounds):
            for row in judge_queries(roles, observed, settings):
                unasked = np.full(len(rounds), np.nan)
                self._values[row.metric].setdefault(row.case_id, unasked)[number] = row.value
                if row.note:
                    notes[row.case_id].add(row.note)
        self._notes = notes

    def rows(self) -> list[MetricRow]:
        """A row for each picture that ever asked, and metric: its mean over the rounds in which it did."""
        return [
            MetricRow(name, CLASS, metric, _mean(values), "; ".join(sorted(self._notes.get(name, ()))))
            for metric, found in self._values.items()
            for name, values in found.items()
        ]

    def means(self, cases: Sequence[Case]) -> dict[tuple[str, str], float]:
        """The mean over rounds of the mean of their queries, for cases among which one may stand more than once."""
        means = {}
        for metric in _REPORTED:
            found = self._values.get(metric, {})
            drawn = [found[case.case_id] for case in cases if case.case_id in found]
            if drawn:
                stacked = np.stack(drawn)  # (cases, rounds)
                asked = ~np.isnan(stacked)
                whole = np.where(asked, stacked, 0).sum(0)[asked.any(0)] / asked.sum(0)[asked.any(0)]
                means[CLASS, f"{metric}_rounds"] = float(whole.mean()) if whole.size else float("nan")
        return means


def _mean(values: NDArray[np.float64]) -> float:
    asked = values[~np.isnan(values)]
    return float(asked.mean()) if asked.size else float("nan")
