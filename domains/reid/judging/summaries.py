"""Results summed up: intervals over identities, and one model on several sets side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from domains.reid.judging.embeddings import EmbeddingSet, Similarity
from domains.reid.judging.retrieval import RetrievalResult, evaluate_retrieval
from domains.reid.judging.rules import MatchingRule
from pipelines.evaluation.bootstrap import GroupSums, percentile_interval, resampled_means

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["RetrievalSet", "evaluate_sets", "identity_intervals"]


class RetrievalSet(NamedTuple):
    """A set to be judged on."""

    query: EmbeddingSet
    gallery: EmbeddingSet
    rule: MatchingRule


def identity_intervals(
    result: RetrievalResult,
    *,
    ranks: Sequence[int] = (1, 5, 10),
    resamples: int = 2000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Means with percentile intervals over bootstrap resamples of the identities.

    The queries of one identity resemble one another, so identities are drawn, never single queries. The gallery stays.

    Returns:
        Columns `metric`, `mean`, `low`, `high`, `queries`, `identities`. No interval with fewer than two identities.
    """
    import pandas as pd

    scored = result.matches > 0
    columns = {
        "map": result.ap,
        "map_trapezoid": result.ap_trapezoid,
        "minp": result.inp,
        **{f"cmc_{rank}": np.where(scored, result.first_rank <= rank, np.nan) for rank in ranks},
    }
    names, groups = np.unique(result.query.identities[scored], return_inverse=True)
    sums = GroupSums(np.column_stack([values[scored] for values in columns.values()]), groups)
    low = high = np.full(len(columns), np.nan)
    if len(names) > 1:
        means = resampled_means(sums, resamples=resamples, seed=seed)
        low, high = percentile_interval(means, confidence)
    return pd.DataFrame(
        {
            "metric": list(columns),
            "mean": sums.means if len(names) else np.full(len(columns), np.nan),
            "low": low,
            "high": high,
            "queries": int(scored.sum()),
            "identities": len(names),
        }
    )


def evaluate_sets(
    sets: Mapping[str, RetrievalSet],
    *,
    similarity: Similarity = "cosine",
    ranks: Sequence[int] = (1, 5, 10),
    resamples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """One model on several sets, as a test of how far it carries: the table of `identity_intervals` for each.

    Args:
        sets: Name → the set, embedded by the same model.
        similarity: How embeddings are compared.
        ranks: Ranks of the cumulative matching.
        resamples: Bootstrap resamples.
        seed: Seed of the resamples.

    Returns:
        The columns of `identity_intervals` with `set` in front and `without_match` behind.
    """
    import pandas as pd

    parts = []
    for name, (query, gallery, rule) in sets.items():
        result = evaluate_retrieval(query, gallery, rule, similarity=similarity)
        part = identity_intervals(result, ranks=ranks, resamples=resamples, seed=seed)
        part.insert(0, "set", name)
        part["without_match"] = result.without_match
        parts.append(part)
    return pd.concat(parts, ignore_index=True)
