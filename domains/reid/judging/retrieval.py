"""Metrics of retrieval: average precision, its trapezoid, inverse negative penalty, cumulative matching.

result = evaluate_retrieval(query, gallery, matching_rule("market1501"))
result.means()      {"map": …, "map_trapezoid": …, "minp": …, "cmc_1": …, "cmc_5": …, …}
result.table()      one row for each query, for bootstraps over identities
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from domains.reid.judging.embeddings import EmbeddingSet, Similarity
from domains.reid.judging.matching import Matching, match_ranks
from domains.reid.judging.rules import MatchingRule
from domains.reid.judging.scores import EmbeddingScores, Scores
from pipelines.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "RetrievalResult",
    "average_precision",
    "average_precision_trapezoid",
    "evaluate_retrieval",
    "inverse_negative_penalty",
]

Floats = NDArray[np.float64]


def average_precision(ranks: NDArray[np.intp]) -> float:
    """Average precision as a finite sum: the mean over the matches of the precision at their rank.

    Args:
        ranks: Ranks of all matches of a query, ascending, counted from 1.

    Returns:
        A single match at rank 5 gives 1/5. NaN without a match.
    """
    count = len(ranks)
    return float((np.arange(1, count + 1) / ranks).mean()) if count else float("nan")


def average_precision_trapezoid(ranks: NDArray[np.intp]) -> float:
    """Average precision as the area of trapezoids under the precision over recall, as the official Market-1501 code.

    Each match adds the mean of the precision at its rank and at the rank before it (1 before the first rank). A single
    match at rank 5 gives (0 + 1/5) / 2 = 1/10. NaN without a match.

    Source: `compute_ap` of the Oxford buildings benchmark, which the evaluation code of Zheng et al., ICCV 2015, uses.
    """
    count = len(ranks)
    if not count:
        return float("nan")
    found = np.arange(count)
    before = np.where(ranks > 1, found / np.maximum(ranks - 1, 1), 1.0)
    return float(((found + 1) / ranks + before).mean() / 2)


def inverse_negative_penalty(ranks: NDArray[np.intp]) -> float:
    """Number of matches by the rank of the last one: 1 when all stand in front. NaN without a match.

    Source: Ye et al., "Deep Learning for Person Re-identification: A Survey and Outlook", TPAMI 2022, eq. (INP).
    """
    return len(ranks) / float(ranks[-1]) if len(ranks) else float("nan")


@dataclass(frozen=True, eq=False)
class RetrievalResult:
    """What became of each query. Arrays are `(Q,)`, in the order of the queries.

    Attributes:
        query: The queries.
        ap: Average precision (finite sum); NaN for a query without a match in the gallery.
        ap_trapezoid: The same by the official trapezoid.
        inp: Inverse negative penalty.
        first_rank: Rank of the first match; 0 without a match.
        matches: How many images of the gallery match.
        ranked: How many images of the gallery take a rank: all that are not removed.
    """

    query: EmbeddingSet
    ap: Floats
    ap_trapezoid: Floats
    inp: Floats
    first_rank: NDArray[np.intp]
    matches: NDArray[np.intp]
    ranked: NDArray[np.intp]

    @property
    def without_match(self) -> int:
        """Queries that no image of the gallery matches. They are left out of all means, as in the official codes."""
        return int((self.matches == 0).sum())

    def cmc(self, depth: int) -> Floats:
        """`(depth,)`: the share of the queries whose first match stands at rank 1, 2 … `depth` or before."""
        found = self.first_rank[self.matches > 0]
        if not found.size:
            return np.full(depth, np.nan)
        at_rank = np.bincount(np.minimum(found, depth + 1), minlength=depth + 2)[1 : depth + 1]
        return np.asarray(np.cumsum(at_rank) / len(found))

    def means(self, ranks: Sequence[int] = (1, 5, 10)) -> dict[str, float]:
        """Means over the queries that have a match, NaN where there is none, and the counts of queries."""
        curve = self.cmc(max(ranks))
        scored = self.matches > 0

        def mean(values: Floats) -> float:
            return float(values[scored].mean()) if scored.any() else float("nan")

        return {
            "map": mean(self.ap),
            "map_trapezoid": mean(self.ap_trapezoid),
            "minp": mean(self.inp),
            **{f"cmc_{rank}": float(curve[rank - 1]) for rank in ranks},
            "queries": float(len(self.ap)),
            "queries_without_match": float(self.without_match),
        }

    def table(self) -> pd.DataFrame:
        """One row for each query."""
        import pandas as pd

        cameras: Mapping[str, object] = {} if self.query.cameras is None else {"camera": self.query.cameras}
        return pd.DataFrame(
            {
                "item": self.query.items,
                "identity": self.query.identities,
                **cameras,
                "ap": self.ap,
                "ap_trapezoid": self.ap_trapezoid,
                "inp": self.inp,
                "first_rank": self.first_rank,
                "matches": self.matches,
                "ranked": self.ranked,
            }
        )


def evaluate_retrieval(
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    rule: MatchingRule,
    *,
    similarity: Similarity = "cosine",
    scores: Scores | None = None,
) -> RetrievalResult:
    """Ranks the gallery for each query and judges the rankings.

    Args:
        query: The queries.
        gallery: The gallery.
        rule: What is removed from the rankings.
        similarity: How embeddings are compared.
        scores: Scores from elsewhere (re-ranked ones), instead of those of the embeddings.

    Raises:
        DataError: Channels differ, cameras are missing, or the scores have another shape than queries by gallery.
    """
    matching = Matching(query, gallery, rule)
    if scores is None:
        scores = EmbeddingScores(query.embeddings, gallery.embeddings, similarity)
    if scores.shape != (len(query), len(gallery)):
        raise DataError(f"scores are {scores.shape}, queries by gallery are {(len(query), len(gallery))}")
    count = len(query)
    values = np.full((3, count), np.nan)
    counts = np.zeros((3, count), dtype=np.intp)
    for row, ranks, ranked in match_ranks(scores, matching):
        counts[1:, row] = len(ranks), ranked
        if len(ranks):
            counts[0, row] = ranks[0]
            values[:, row] = (
                average_precision(ranks),
                average_precision_trapezoid(ranks),
                inverse_negative_penalty(ranks),
            )
    return RetrievalResult(query, values[0], values[1], values[2], counts[0], counts[1], counts[2])
