"""Judgements of classified pictures: the first and the first five guesses, confusion, and where the network looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.cases import Case
from pipelines.evaluation import Metric
from pipelines.task import Figure, MetricRow, Observation

__all__ = ["METRICS", "draw_confusion", "judge_guess", "pooled_metrics", "rank_of"]

METRICS: Mapping[str, Metric] = {
    "accuracy": Metric("higher", 0.0, "", "share of pictures whose most likely class is right"),
    "accuracy_top5": Metric(
        "higher", 0.0, "", "share of pictures whose class is among the five most likely", "Top-5 accuracy"
    ),
    "recall": Metric("higher", 0.0, "", "share of the pictures of a class that are found; absent classes have none"),
    "correct": Metric("higher", 0.0, "", "1 where the most likely class is the right one, else 0"),
    "correct_top5": Metric(
        "higher", 0.0, "", "1 where the right class is among the five most likely, else 0", "Correct in top 5"
    ),
    "likelihood": Metric("higher", 0.0, "", "probability given to the right class", "Probability of the truth"),
}
_TOP = 5
_WHOLE = "picture"
"""The class of rows of single pictures. Under its own class, a picture would count as failed for all the others."""


def rank_of(logits: NDArray[np.float32], label: int) -> int:
    """Place of the right class, from 1; classes of the same score that come before it are ahead of it."""
    ahead = logits > logits[label]
    return 1 + int(ahead.sum()) + int((logits[:label] == logits[label]).sum())


def judge_guess(case: Case, logits: NDArray[np.float32] | None, classes: Sequence[str]) -> list[MetricRow]:
    """Rows of one picture; without a prediction each takes the worst value."""
    names = ("correct", "correct_top5", "likelihood")
    if logits is None:
        return [MetricRow(case.case_id, _WHOLE, name, 0.0, "failed: no prediction") for name in names]
    label = classes.index(str(case.labels["identity"]))
    rank = rank_of(logits, label)
    values = (float(rank == 1), float(rank <= _TOP), float(np.exp(logits[label])))
    note = "" if rank == 1 else f"taken for {classes[int(np.argmax(logits))]}"
    return [MetricRow(case.case_id, _WHOLE, name, value, note) for name, value in zip(names, values, strict=True)]


def pooled_metrics(cases: Sequence[Case], observed: Mapping[str, Observation]) -> dict[tuple[str, str], float]:
    """Accuracy over all pictures, and the recall of each class that is there; one without a prediction is wrong."""
    if not cases:
        return {}
    ranks = [observed[case.case_id]["rank"] if case.case_id in observed else None for case in cases]
    found: dict[str, list[bool]] = {}
    for case, rank in zip(cases, ranks, strict=True):
        found.setdefault(str(case.labels["identity"]), []).append(rank == 1)
    first = sum(rank == 1 for rank in ranks) / len(ranks)
    top = sum(rank is not None and rank <= _TOP for rank in ranks) / len(ranks)
    whole = {("mean", "accuracy"): first, ("mean", "accuracy_top5"): top}
    return whole | {(name, "recall"): sum(hits) / len(hits) for name, hits in sorted(found.items())}


def draw_confusion(cases: Sequence[Case], observed: Mapping[str, Observation], classes: Sequence[str]) -> list[Figure]:
    """The confusion matrix: rows are what pictures show, columns what they were taken for."""
    import matplotlib as mpl
    import pandas as pd

    mpl.use("Agg")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    seen = [case for case in cases if case.case_id in observed]
    if not seen:
        return []
    counts = np.zeros((len(classes), len(classes)), dtype=int)
    place = {name: number for number, name in enumerate(classes)}
    for case in seen:
        counts[place[str(case.labels["identity"])], place[str(observed[case.case_id]["guess"])]] += 1
    side = min(14.0, 3 + 0.25 * len(classes))
    drawing = Drawing(figsize=(side, side), dpi=90)
    axes = drawing.add_subplot()
    axes.imshow(counts / np.maximum(counts.sum(1, keepdims=True), 1), cmap="Blues", vmin=0, vmax=1)
    if len(classes) <= 40:
        axes.set_xticks(range(len(classes)), classes, rotation=90, fontsize=7)
        axes.set_yticks(range(len(classes)), classes, fontsize=7)
        for row, column in np.argwhere(counts):
            share = counts[row, column] / counts[row].sum()
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=6, color=colour)
    axes.set(xlabel="taken for", ylabel="shows")
    canvas: Any = FigureCanvasAgg(drawing)
    drawing.tight_layout()
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].copy()
    wrong = int(counts.sum() - np.trace(counts))
    table = pd.DataFrame(counts, index=list(classes), columns=list(classes)).rename_axis("shows").reset_index()
    return [Figure("confusion", image, f"Confusion of {len(seen)} pictures; {wrong} are wrong.", table)]
