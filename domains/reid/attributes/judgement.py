"""How well pictures with the same value of an attribute are found by the embedding of that attribute.

Each picture asks for all others of its part. Pictures of its own group (the same vehicle by another camera) are
removed: they share the value because they show the same thing. A picture whose value is not known neither asks nor is
searched.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.retrieval import evaluate_retrieval
from domains.reid.judging.rules import MATCHING_RULES
from pipelines.cases import Case
from pipelines.evaluation import Metric
from pipelines.task import MetricRow, Observation

__all__ = ["METRICS", "judge_attribute", "value_of"]

METRICS: Mapping[str, Metric] = {
    "map": Metric("higher", 0.0, "", "average precision of a picture that asks for its value; its mean is mAP", "mAP"),
    "cmc_1": Metric("higher", 0.0, "", "share of pictures whose nearest has the same value", "CMC at 1"),
    "share": Metric("neither", None, "", "share of the pictures searched that have the value: chance", "Chance"),
}


def value_of(case: Case, attribute: str) -> str:
    """The value of an attribute; empty where it is not known."""
    return str(case.labels.get(attribute, "") or "")


def judge_attribute(
    cases: Sequence[Case], observed: Mapping[str, Observation], attribute: str, place: int
) -> list[MetricRow]:
    """A row for each case and metric, under the attribute's name as class.

    Args:
        cases: The cases of a part.
        observed: Case id → `embedding` `(A, D)`.
        attribute: The attribute.
        place: Its row in an embedding.
    """
    rows = [
        MetricRow(case.case_id, attribute, metric, math.nan, f"no {attribute} is known")
        for case in cases
        if not value_of(case, attribute)
        for metric in METRICS
    ]
    known = [case for case in cases if value_of(case, attribute)]
    found = {case.case_id: observed[case.case_id]["embedding"][place] for case in known if case.case_id in observed}
    rows += [
        MetricRow(case.case_id, attribute, metric, 0.0 if metric != "share" else math.nan, "failed: no embedding")
        for case in known
        if case.case_id not in found
        for metric in METRICS
    ]
    asking = [case for case in known if case.case_id in found]
    if len(asking) < 2:
        return rows + [
            MetricRow(case.case_id, attribute, metric, math.nan, "nobody to find")
            for case in asking
            for metric in METRICS
        ]
    # The rule removes what shares identity and camera: here the value, and the group.
    whole = EmbeddingSet.of(
        np.stack([found[case.case_id] for case in asking]),
        [value_of(case, attribute) for case in asking],
        [case.group for case in asking],
        [case.case_id for case in asking],
        name=f"embeddings of {attribute}",
    )
    result = evaluate_retrieval(whole, whole, MATCHING_RULES["cameras"])
    for row, case in enumerate(asking):
        matches = int(result.matches[row])
        values = {
            "map": float(result.ap[row]),
            "cmc_1": float(result.first_rank[row] == 1) if matches else math.nan,
            "share": matches / int(result.ranked[row]) if matches else math.nan,
        }
        note = "" if matches else "nobody to find"
        rows += [MetricRow(case.case_id, attribute, metric, value, note) for metric, value in values.items()]
    return rows
