"""The threshold at a false-match rate, against counting all pairs."""

from __future__ import annotations

import numpy as np
import pytest

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.rules import MatchingRule, matching_rule
from domains.reid.judging.scores import GivenScores
from domains.reid.judging.thresholds import threshold_at, verification_rates
from pipelines.errors import DataError


def labelled(identities: list, cameras: list | None = None) -> EmbeddingSet:
    values = np.random.default_rng(0).normal(size=(len(identities), 3))
    return EmbeddingSet.of(values, identities, cameras)


def test_known_pairs() -> None:
    """Ten impostor pairs with scores 0.0 to 0.9, two genuine ones with .75 and .95."""
    gallery = labelled([2] * 10 + [1, 1])
    scores = GivenScores(np.array([[*np.arange(10) / 10, 0.75, 0.95]]))
    point = threshold_at(0.2, labelled([1]), gallery, matching_rule("none"), scores=scores)
    assert 0.7 < point.threshold < 0.7 + 1e-12
    assert (point.false_match_rate, point.true_match_rate) == (0.2, 1.0)
    assert (point.impostor_pairs, point.genuine_pairs) == (10, 2)
    strict = threshold_at(0.1, labelled([1]), gallery, matching_rule("none"), scores=scores)
    assert 0.8 < strict.threshold < 0.8 + 1e-12
    assert (strict.false_match_rate, strict.true_match_rate) == (0.1, 0.5)


def test_equal_impostor_scores_are_all_above_or_all_below() -> None:
    gallery = labelled([2] * 10 + [1])
    scores = GivenScores(np.array([[0.5] * 4 + [0.1] * 6 + [0.5]]))
    point = threshold_at(0.2, labelled([1]), gallery, matching_rule("none"), scores=scores)
    assert point.threshold > 0.5
    assert (point.false_match_rate, point.true_match_rate) == (0.0, 0.0)


def test_removed_pairs_and_queries_of_nobody_do_not_count() -> None:
    query = labelled([1, ""], [1, 1])
    gallery = labelled([1, 1, -1, 0, 2, 3], [1, 2, 2, 2, 1, 1])
    scores = GivenScores(np.tile(np.arange(6.0), (2, 1)))
    point = verification_rates(4.0, query, gallery, matching_rule("market1501"), scores=scores)
    assert (point.impostor_pairs, point.genuine_pairs) == (3, 1)
    assert point.false_match_rate == pytest.approx(2 / 3)


@pytest.mark.parametrize("rate", [0.3, 0.05, 0.004])
@pytest.mark.parametrize("rule", [matching_rule("market1501"), matching_rule("none")], ids=lambda rule: rule.name)
def test_random_sets_equal_counting(rate: float, rule: MatchingRule) -> None:
    generator = np.random.default_rng(1)

    def drawn(count: int) -> EmbeddingSet:
        return EmbeddingSet.of(
            generator.normal(size=(count, 5)).astype(np.float32),
            generator.integers(-1, 9, count),
            generator.integers(0, 3, count),
        )

    query, gallery = drawn(40), drawn(120)
    impostor, genuine = [], []
    for row in range(40):
        for at in range(120):
            who, whom = int(query.identities[row]), int(gallery.identities[at])
            left, right = query.embeddings[row], gallery.embeddings[at]
            score = float(left @ right / np.linalg.norm(left) / np.linalg.norm(right))
            here = query.cameras[row] == gallery.cameras[at]  # type: ignore[index]
            removed = who in (-1, 0) or whom == -1 or (who == whom and here)
            if rule.name == "market1501" and removed:
                continue
            (genuine if who == whom else impostor).append(score)
    point = threshold_at(rate, query, gallery, rule)
    assert (point.impostor_pairs, point.genuine_pairs) == (len(impostor), len(genuine))
    allowed = int(rate * len(impostor))
    # Scores of float32 differ by rounding between here and there; no impostor pair stands that close to the threshold.
    assert sum(score >= point.threshold + 1e-6 for score in impostor) == allowed
    assert sum(score >= point.threshold - 1e-6 for score in impostor) == allowed + 1
    assert point.false_match_rate == pytest.approx(allowed / len(impostor))
    assert point.true_match_rate == pytest.approx(np.mean(np.array(genuine) >= point.threshold))
    again = verification_rates(point.threshold, query, gallery, rule)
    assert again == point


def test_a_rate_that_cannot_be_measured_is_refused() -> None:
    with pytest.raises(DataError, match="needs at least 1,000 impostor pairs, and there are 4"):
        threshold_at(0.001, labelled([1, 2]), labelled([2, 3, 1]), matching_rule("none"))
    with pytest.raises(ValueError, match="false_match_rate 0 is not"):
        threshold_at(0, labelled([1, 2]), labelled([2, 3]), matching_rule("none"))
