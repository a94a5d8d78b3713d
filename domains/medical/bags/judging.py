"""How bags are judged: each by its probabilities and attention, all together by curves, counts and calibration.

A case whose prediction failed is counted as predicted as badly as can be: the truth is given the probability 0, and
all else 1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from domains.medical.bags import scores
from domains.medical.bags.predictor import BagPrediction, attention_entropy
from domains.medical.bags.target import Target
from pipelines.cases import Case
from pipelines.evaluation import Metric
from pipelines.task import MetricRow, Observation

__all__ = ["METRICS", "WHOLE", "judge_bag", "judge_bags", "observe_bag", "together"]

WHOLE = "bag"
"""Stands in the column `class` for what is said of a bag whatever its class."""
_MEAN = "mean"

METRICS: Mapping[str, Metric] = {
    "auc": Metric(
        "higher",
        0.0,
        "",
        "area under the ROC curve, a class against the rest; the mean is the macro AUC",
        headline=True,
    ),
    "balanced_accuracy": Metric("higher", 0.0, "", "mean over classes of the share of their bags that is found"),
    "accuracy": Metric("higher", 0.0, "", "share of bags with the right class (of several labels: all of them right)"),
    "f1": Metric("higher", 0.0, "", "2 TP / (2 TP + FP + FN) of each class; the mean is the macro F1"),
    "sensitivity": Metric("higher", 0.0, "", "share of the bags of a class that is found"),
    "specificity": Metric("higher", 0.0, "", "share of the bags of other classes that is not taken for it"),
    "average_precision": Metric("higher", 0.0, "", "precision averaged over recall, each class against the rest"),
    "likelihood": Metric("higher", 0.0, "", "geometric mean of the probability of the truth: exp(-log loss)"),
    "brier": Metric("lower", 1.0, "", "mean squared distance of the probabilities from the truth", "Brier score"),
    "calibration_error": Metric(
        "lower", 1.0, "", "expected calibration error: |accuracy - confidence| over 10 bins of equal width"
    ),
    "correct": Metric("higher", 0.0, "", "1 where the class is right, 0 where it is not"),
    "probability": Metric(
        "higher",
        0.0,
        "",
        "probability of the true class (of several labels: the geometric mean)",
        "Probability of the truth",
    ),
    "attention_entropy": Metric("neither", None, "", "entropy of the attention over log N: 0 one instance, 1 all"),
    "attention_top10": Metric(
        "neither", None, "", "share of the attention that the ten highest instances hold", "Attention of the top 10"
    ),
}
"""What the numbers mean."""


def judge_bag(case: Case, result: BagPrediction | None, target: Target) -> list[MetricRow]:
    """What is said of one bag; None is a prediction that failed."""
    if result is None:
        values = {"correct": 0.0, "probability": 0.0, "attention_entropy": math.nan, "attention_top10": math.nan}
        return [MetricRow(case.case_id, WHOLE, name, value) for name, value in values.items()]
    truth = target.of(case)
    of_truth = np.where(truth, result.probabilities, 1 - result.probabilities)
    likely = float(np.exp(np.log(np.maximum(of_truth, 1e-12)).mean())) if target.several else float(of_truth[truth][0])
    values = {
        "correct": float((target.decide(result.probabilities) == truth).all()),
        "probability": likely,
        "attention_entropy": attention_entropy(result.attention),
        "attention_top10": float(np.sort(result.attention)[-10:].sum(dtype=np.float64)),
    }
    note = "one instance" if len(result.attention) < 2 else ""
    return [
        MetricRow(case.case_id, WHOLE, name, value, note if math.isnan(value) else "") for name, value in values.items()
    ]


def observe_bag(case: Case, result: BagPrediction, target: Target) -> Observation:
    """Truth, decision and probabilities by name; kept in the run's table of predictions."""
    told: dict[str, object] = {
        "truth": target.told(target.of(case)),
        "predicted": target.told(target.decide(result.probabilities)),
        "instances": len(result.attention),
    }
    return told | {
        f"probability/{name}": float(value) for name, value in zip(target.names, result.probabilities, strict=True)
    }


def together(
    cases: Sequence[Case], observed: Mapping[str, Observation], target: Target
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Truth and probabilities `(cases, classes)`."""
    keys = [f"probability/{name}" for name in target.names]
    truth = np.array([target.of(case) for case in cases])
    rows = []
    for case, flags in zip(cases, truth, strict=True):
        seen = observed.get(case.case_id)
        rows.append([1.0 - flag for flag in flags] if seen is None else [seen[key] for key in keys])
    return truth, np.array(rows, dtype=np.float64)


def judge_bags(
    truth: NDArray[np.bool_], probability: NDArray[np.float64], target: Target
) -> dict[tuple[str, str], float]:
    """`(class, metric)` → number, from `(cases, classes)`.

    Of two exclusive classes, what is the same for both, or turned around, is given for the second (positive) one alone.
    """
    decided = target.decide(probability)
    hit, invented, missed, spared = scores.class_counts(truth, decided)
    binary = not target.several and len(target.names) == 2
    found: dict[tuple[str, str], float] = {}
    recalls = []
    for number, name in enumerate(target.names):
        recall = scores.ratio(hit[number], hit[number] + missed[number])
        recalls.append(recall)
        found[name, "f1"] = scores.f1_score(hit[number], invented[number], missed[number])
        if binary and number == 0:
            continue
        found[name, "auc"] = scores.area_under_roc(truth[:, number], probability[:, number])
        found[name, "average_precision"] = scores.average_precision(truth[:, number], probability[:, number])
        found[name, "sensitivity"] = recall
        found[name, "specificity"] = scores.ratio(spared[number], spared[number] + invented[number])
    if target.several:
        negative = [scores.ratio(spared[n], spared[n] + invented[n]) for n in range(len(target.names))]
        recalls = [(one + other) / 2 for one, other in zip(recalls, negative, strict=True)]
        sure, right = probability.ravel(), truth.ravel()
    else:
        sure, right = probability.max(1), np.asarray((truth & decided).any(1))
    defined = [recall for recall in recalls if recall == recall]
    found[_MEAN, "balanced_accuracy"] = sum(defined) / len(defined) if defined else math.nan
    found[_MEAN, "accuracy"] = float((truth == decided).all(1).mean())
    found[_MEAN, "likelihood"] = (
        scores.likelihood(truth, probability) if target.several else (scores.likelihood(truth, probability[truth]))
    )
    found[_MEAN, "brier"] = scores.brier_score(truth, probability, several=target.several)
    found[_MEAN, "calibration_error"] = scores.calibration_error(sure, right)
    return found
