"""Intervals over identities, and several sets side by side."""

from __future__ import annotations

import numpy as np
import pytest

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.retrieval import RetrievalResult, evaluate_retrieval
from domains.reid.judging.rules import matching_rule
from domains.reid.judging.summaries import RetrievalSet, evaluate_sets, identity_intervals


def drawn(seed: int, identities: int = 12) -> RetrievalSet:
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(identities, 6))

    def images(count: int) -> EmbeddingSet:
        labels = generator.integers(0, identities, count)
        return EmbeddingSet.of(centres[labels] + 1.5 * generator.normal(size=(count, 6)), labels)

    return RetrievalSet(images(60), images(80), matching_rule("none"))


def test_identities_are_drawn_not_queries() -> None:
    """One identity of ten equal queries counts as one draw: its interval is as wide as that of two coins."""
    identities = np.repeat(["a", "b"], 10)
    ap = np.repeat([0.0, 1.0], 10)
    ones = np.ones(20, dtype=np.intp)
    query = EmbeddingSet.of(np.random.default_rng(0).normal(size=(20, 2)), identities)
    table = identity_intervals(RetrievalResult(query, ap, ap, ap, ones, ones, ones))
    row = table.set_index("metric").loc["map"]
    assert (row["mean"], row["low"], row["high"], row["identities"]) == (0.5, 0.0, 1.0, 2)


def test_means_are_those_of_the_result_and_lie_within_their_intervals() -> None:
    result = evaluate_retrieval(*drawn(0))
    table = identity_intervals(result, resamples=300).set_index("metric")
    means = result.means()
    for metric, row in table.iterrows():
        assert row["mean"] == pytest.approx(means[str(metric)], abs=1e-12)
        assert row["low"] < row["mean"] < row["high"] or row["low"] == row["high"] == 1.0
    again = identity_intervals(result, resamples=300).set_index("metric")
    assert again.equals(table)


def test_queries_without_a_match_do_not_count() -> None:
    query = EmbeddingSet.of(np.eye(3), ["a", "b", "z"])
    gallery = EmbeddingSet.of(np.eye(3), ["a", "b", "b"])
    table = identity_intervals(evaluate_retrieval(query, gallery, matching_rule("none")), ranks=(1,), resamples=50)
    assert table["queries"].tolist() == [2] * 4
    assert table["identities"].tolist() == [2] * 4


def test_nothing_scored_gives_no_numbers() -> None:
    query, gallery = EmbeddingSet.of(np.eye(2), ["a", "b"]), EmbeddingSet.of(np.eye(2), ["c", "d"])
    table = identity_intervals(evaluate_retrieval(query, gallery, matching_rule("none")))
    assert table[["mean", "low", "high"]].isna().all(axis=None)


def test_several_sets_stand_side_by_side() -> None:
    sets = {"first": drawn(1), "second": drawn(2, identities=5)}
    table = evaluate_sets(sets, ranks=(1, 5), resamples=50)
    assert table["set"].unique().tolist() == ["first", "second"]
    for name, part in table.groupby("set"):
        expected = evaluate_retrieval(*sets[str(name)]).means()["map"]
        assert part.set_index("metric").loc["map", "mean"] == pytest.approx(expected)
