"""Rows and pictures of a part: the rank of every query in its gallery.

A picture without an embedding (its file was damaged, say) counts as never found: as a query it takes the worst value
of each metric, and in the gallery the precision at its place is 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from domains.reid.images import ImageInput, Pixels, picture_or_none
from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.reranking import rerank
from domains.reid.judging.retrieval import RetrievalResult, evaluate_retrieval
from domains.reid.retrieval.roles import Roles
from domains.reid.retrieval.settings import RetrievalJudgeSettings
from pipelines.cases import Case
from pipelines.evaluation import Metric
from pipelines.task import Figure, MetricRow, Observation

__all__ = ["METRICS", "RANKS", "draw_rankings", "judge_queries"]

RANKS = (1, 5, 10)
CLASS = "retrieval"
_SHOWN = 10
METRICS: Mapping[str, Metric] = {
    "map": Metric("higher", 0.0, "", "average precision of a query (finite sum); its mean is mAP", "mAP"),
    "map_trapezoid": Metric(
        "higher", 0.0, "", "the same by the trapezoid of the official Market-1501 code", "mAP by trapezoid"
    ),
    "minp": Metric("higher", 0.0, "", "matches of a query over the rank of the last one; its mean is mINP", "mINP"),
    **{
        f"cmc_{rank}": Metric(
            "higher", 0.0, "", f"share of queries with a match among the first {rank}", f"CMC at {rank}"
        )
        for rank in RANKS
    },
    **{
        f"{name}_rounds": Metric(
            "higher",
            0.0,
            "",
            f"{label} of a round of one_each, mean of the rounds (VehicleID)",
            f"{label}, mean of rounds",
        )
        for name, label in (("map", "mAP"), ("cmc_1", "CMC at 1"), ("cmc_5", "CMC at 5"))
    },
    "map_reranked": Metric(
        "higher", 0.0, "", "average precision after k-reciprocal re-ranking", "mAP after re-ranking"
    ),
    "cmc_1_reranked": Metric(
        "higher", 0.0, "", "share of queries whose first is a match after re-ranking", "CMC at 1 after re-ranking"
    ),
}


def judge_queries(
    roles: Roles, observed: Mapping[str, Observation], settings: RetrievalJudgeSettings
) -> list[MetricRow]:
    """A row for each query and metric; NaN for a query that nobody in the gallery matches.

    Args:
        roles: Queries and gallery.
        observed: Case id → `embedding` `(D,)`.
        settings: How embeddings are compared.
    """
    rows = []
    found = _ranked(roles, observed, settings)
    again = None if settings.rerank is None else _ranked(roles, observed, settings, reranked=True)
    names = [name for name in METRICS if settings.rerank is not None or not name.endswith("_reranked")]
    names = [name for name in names if not name.endswith("_rounds")]
    place = {} if found is None else {item: row for row, item in enumerate(found.query.items.tolist())}
    lost = [case for case in roles.gallery if case.case_id not in observed]
    for case in roles.queries:
        row = place.get(case.case_id)
        missed = sum(_would_match(case, other, roles) for other in lost)
        if row is None or found is None:
            rows += [MetricRow(case.case_id, CLASS, name, 0.0, "failed: no embedding") for name in names]
            continue
        matches = int(found.matches[row])
        if not matches + missed:
            rows += [MetricRow(case.case_id, CLASS, name, math.nan, "nobody to find") for name in names]
            continue
        share, first = matches / (matches + missed), int(found.first_rank[row])
        values = {
            "map": share * _or_zero(found.ap[row]),
            "map_trapezoid": share * _or_zero(found.ap_trapezoid[row]),
            "minp": share * _or_zero(found.inp[row]) if not missed else 0.0,
        } | {f"cmc_{rank}": float(0 < first <= rank) for rank in RANKS}
        if again is not None:
            values["map_reranked"] = share * _or_zero(again.ap[row])
            values["cmc_1_reranked"] = float(again.first_rank[row] == 1)
        note = f"{missed} of its matches have no embedding" if missed else ""
        rows += [MetricRow(case.case_id, CLASS, name, value, note) for name, value in values.items()]
    return rows


def draw_rankings(
    roles: Roles, observed: Mapping[str, Observation], settings: RetrievalJudgeSettings, given: ImageInput
) -> list[Figure]:
    """The cumulative matching curve with its numbers, and ranked lists of the worst queries."""
    found = _ranked(roles, observed, settings)
    if found is None or not (found.matches > 0).any():
        return []
    figures = [_curve(found)]
    if settings.ranked_lists:
        figures.append(_lists(found, roles, observed, settings, given))
    return figures


def _ranked(
    roles: Roles, observed: Mapping[str, Observation], settings: RetrievalJudgeSettings, *, reranked: bool = False
) -> RetrievalResult | None:
    """The ranking of all queries that have an embedding, as it is or re-ranked; None where there is nothing to rank.

    What is read back from the folds of a cross-validation has none: embeddings are not kept.
    """
    observed = {name: seen for name, seen in observed.items() if "embedding" in seen}
    queries = [case for case in roles.queries if case.case_id in observed]
    gallery = [case for case in roles.gallery if case.case_id in observed]
    if not queries or len(gallery) < 2:
        return None
    asked, there = _set(queries, observed, "queries"), _set(gallery, observed, "gallery")
    scores = None
    if reranked and settings.rerank is not None:
        how = settings.rerank
        limit = int(how.memory_gigabytes * 2**30)
        scores = rerank(asked.embeddings, there.embeddings, k1=how.k1, k2=how.k2, weight=how.weight, memory_limit=limit)
    return evaluate_retrieval(asked, there, roles.rule, similarity=settings.similarity, scores=scores)


def _set(cases: Sequence[Case], observed: Mapping[str, Observation], name: str) -> EmbeddingSet:
    cameras = [str(case.labels.get("camera", "")) for case in cases]
    return EmbeddingSet.of(
        np.stack([observed[case.case_id]["embedding"] for case in cases]),
        [str(case.labels.get("identity", "")) for case in cases],
        cameras if any(cameras) else None,
        [case.case_id for case in cases],
        name=name,
    )


def _would_match(query: Case, other: Case, roles: Roles) -> bool:
    identity = str(query.labels.get("identity", ""))
    if roles.rule.is_nobody(identity) or str(other.labels.get("identity", "")) != identity or query is other:
        return False
    return not (roles.rule.same_camera_removed and query.labels.get("camera") == other.labels.get("camera"))


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else float(value)


def _curve(found: RetrievalResult) -> Figure:
    import matplotlib as mpl
    import pandas as pd

    mpl.use("Agg")
    from matplotlib.figure import Figure as Drawing
    from matplotlib.ticker import MaxNLocator

    depth = int(min(20, found.ranked.max()))
    curve = found.cmc(depth)
    drawing = Drawing(figsize=(5, 3.2), dpi=110)
    axes = drawing.add_subplot()
    axes.plot(range(1, depth + 1), curve, marker="o", markersize=3)
    axes.set(xlabel="rank", ylabel="share of queries with a match", ylim=(0, 1.02))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    image = _pixels(drawing)
    scored = int((found.matches > 0).sum())
    caption = f"Cumulative matching characteristic of {scored} queries; rank 1: {curve[0]:.3f}."
    return Figure("cmc", image, caption, pd.DataFrame({"rank": range(1, depth + 1), "share": curve}))


def _pixels(drawing: Any) -> Pixels:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas: Any = FigureCanvasAgg(drawing)
    drawing.tight_layout()
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _lists(
    found: RetrievalResult,
    roles: Roles,
    observed: Mapping[str, Observation],
    settings: RetrievalJudgeSettings,
    given: ImageInput,
) -> Figure:
    """Ranked lists of the queries with the lowest average precision, and of the best one last."""
    from domains.reid.index.pictures import Row, Tile, draw_ranked_lists

    order = [int(row) for row in np.argsort(found.ap, kind="stable") if found.matches[row]]
    chosen = [*order[: settings.ranked_lists - 1], order[-1]] if len(order) > settings.ranked_lists else order
    gallery = [case for case in roles.gallery if case.case_id in observed]
    vectors = np.stack([observed[case.case_id]["embedding"] for case in gallery])
    queries = {case.case_id: case for case in roles.queries}
    rows = []
    for place in chosen:
        query = queries[str(found.query.items[place])]
        vector = observed[query.case_id]["embedding"]
        scores = vectors @ vector if settings.similarity == "cosine" else -((vectors - vector) ** 2).sum(1)
        tiles = []
        for other in np.argsort(-scores, kind="stable"):
            case = gallery[int(other)]
            if _removed(query, case, roles):
                continue
            right = _would_match(query, case, roles)
            tiles.append(
                Tile(picture_or_none(given, case), case.case_id, f"{scores[other]:.3f}", "right" if right else "wrong")
            )
            if len(tiles) == _SHOWN:
                break
        rows.append(Row(Tile(picture_or_none(given, query), query.case_id, f"AP {found.ap[place]:.3f}"), tiles))
    caption = f"Ranked lists of the {len(rows) - 1} worst queries and of the best one; green is right, red is wrong."
    return Figure("ranked-lists", draw_ranked_lists(rows), caption)


def _removed(query: Case, other: Case, roles: Roles) -> bool:
    same = query.labels.get("identity") == other.labels.get("identity")
    if roles.rule.itself_removed and query.case_id == other.case_id:
        return True
    cameras = query.labels.get("camera") == other.labels.get("camera")
    return roles.rule.same_camera_removed and same and cameras
