"""How actions are judged: the first and the first five guesses, by class and over all clips, and what is confused.

A class without a clip in the part is in no mean over classes. A clip whose prediction failed is wrong, and counts as if
its class had been given the probability 0. Among five classes or fewer, everything is among the first five guesses:
nothing is said of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case
from pipelines.errors import CaseError
from pipelines.evaluation import Metric
from pipelines.task import MetricRow, Observation

__all__ = [
    "METRICS",
    "WHOLE",
    "Told",
    "confusion",
    "judge_clip",
    "judge_clips",
    "observe_clip",
    "rank_of",
    "true_class",
]

WHOLE = "clip"
"""Stands in the column `class` for what is said of a clip whatever its class."""
_TOP = 5
_SMALLEST = 1e-6


class Told(Protocol):
    """What is judged of a prediction."""

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """float64 `(classes,)`."""


METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("higher", 0.0, "", "share of clips whose most likely class is right", headline=True),
    "accuracy_top5": Metric("higher", 0.0, "", "share of clips whose class is among the five most likely"),
    "class_accuracy": Metric(
        "higher", 0.0, "", "share of the clips of a class that is found; the mean is over classes"
    ),
    "clip_accuracy": Metric(
        "higher", 0.0, "", "of each video the share of its clips that are right, where several of one video are judged"
    ),
    "likelihood": Metric("higher", 0.0, "", "geometric mean of the probability of the truth: exp(-log loss)"),
    "correct": Metric("higher", 0.0, "", "1 where the most likely class is right, 0 where it is not"),
    "correct_top5": Metric("higher", 0.0, "", "1 where the class is among the five most likely, 0 where it is not"),
    "probability": Metric("higher", 0.0, "", "probability of the true class"),
}
"""What the numbers mean."""


def true_class(case: Case, classes: Sequence[str]) -> int:
    """Number of the class of a case. Raises `CaseError` where it has none, or one that the model does not know."""
    name = str(case.labels.get("action", ""))
    if name not in classes:
        raise CaseError(
            case.case_id,
            f"its action is {name!r}" if name else "no action",
            hint=f"The model knows {', '.join(classes)}.",
        )
    return list(classes).index(name)


def rank_of(probabilities: NDArray[np.floating[Any]], truth: int) -> int:
    """Place of the right class, from 1; of equal ones those that come before it are ahead of it."""
    right = probabilities[truth]
    return 1 + int((probabilities > right).sum()) + int((probabilities[:truth] == right).sum())


def judge_clip(case: Case, result: Told | None, classes: Sequence[str]) -> list[MetricRow]:
    """What is said of one clip; None is a prediction that failed."""
    truth = true_class(case, classes)
    names = ["correct", *(["correct_top5"] if len(classes) > _TOP else []), "probability"]
    if result is None:
        return [MetricRow(case.case_id, WHOLE, name, 0.0, "failed: no prediction") for name in names]
    rank = rank_of(result.probabilities, truth)
    values = {"correct": float(rank == 1), "correct_top5": float(rank <= _TOP)}
    values["probability"] = float(result.probabilities[truth])
    note = "" if rank == 1 else f"{classes[truth]}, taken for {classes[int(result.probabilities.argmax())]}"
    return [MetricRow(case.case_id, WHOLE, name, values[name], note) for name in names]


def observe_clip(
    case: Case, result: Told, classes: Sequence[str], *, parts: NDArray[np.float64] | None = None
) -> Observation:
    """Truth, decision, place of the truth, and all probabilities; kept in the run's table of predictions.

    Args:
        case: The clip, or the video.
        result: What was said of it.
        classes: Names.
        parts: `(clips, classes)`, probabilities of the clips that a video was judged by, where there are several.
    """
    truth = true_class(case, classes)
    told: dict[str, str | int | float] = {
        "truth": classes[truth],
        "predicted": classes[int(result.probabilities.argmax())],
        "rank": rank_of(result.probabilities, truth),
    }
    if parts is not None:
        told["clips_right"] = float(np.mean([rank_of(one, truth) == 1 for one in parts]))
    return told | {
        f"probability/{name}": float(value) for name, value in zip(classes, result.probabilities, strict=True)
    }


def judge_clips(
    cases: Sequence[Case], observed: Mapping[str, Observation], classes: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Accuracies over all clips alike and by class, and the likelihood; `(class, metric)` → number."""
    if not cases:
        return {}
    truth = np.array([true_class(case, classes) for case in cases])
    told = [observed.get(case.case_id) for case in cases]
    rank = np.array([len(classes) + 1 if one is None else int(one["rank"]) for one in told])
    chance = np.array([0.0 if one is None else float(one[f"probability/{one['truth']}"]) for one in told])
    counts = np.bincount(truth, minlength=len(classes))
    found = np.bincount(truth, rank == 1, len(classes))
    shares = np.divide(found, counts, out=np.full(len(classes), np.nan), where=counts > 0)
    return {(name, "class_accuracy"): float(share) for name, share in zip(classes, shares, strict=True)} | {
        ("mean", "class_accuracy"): float(np.nanmean(shares)),
        ("mean", "accuracy"): float((rank == 1).mean()),
        **({("mean", "accuracy_top5"): float((rank <= _TOP).mean())} if len(classes) > _TOP else {}),
        ("mean", "likelihood"): float(np.exp(np.log(np.maximum(chance, _SMALLEST)).mean())),
        **_of_parts(told),
    }


def _of_parts(told: Sequence[Observation | None]) -> dict[tuple[str, str], float]:
    """How often single clips of a video are right; nothing where videos were not judged by several."""
    if not any(one is not None and "clips_right" in one for one in told):
        return {}
    return {("mean", "clip_accuracy"): float(np.mean([0.0 if one is None else one["clips_right"] for one in told]))}


def confusion(cases: Sequence[Case], observed: Mapping[str, Observation], classes: Sequence[str]) -> NDArray[np.intp]:
    """Counts `(classes, classes)`: rows are what clips show, columns what they were taken for."""
    place = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), np.intp)
    for case in cases:
        if case.case_id in observed:
            seen = observed[case.case_id]
            counts[place[str(seen["truth"])], place[str(seen["predicted"])]] += 1
    return counts
