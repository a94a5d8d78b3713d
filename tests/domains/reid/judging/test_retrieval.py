"""Metrics of retrieval: cases with known answers for each rule, and a plain implementation beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.matching import Matching
from domains.reid.judging.retrieval import (
    RetrievalResult,
    average_precision,
    average_precision_trapezoid,
    evaluate_retrieval,
    inverse_negative_penalty,
)
from domains.reid.judging.rules import MATCHING_RULES, MatchingRule, draw_one_gallery_image, matching_rule
from domains.reid.judging.scores import GivenScores, blocks
from pipelines.errors import DataError


def labelled(identities: Sequence[Any], cameras: Sequence[Any] | None = None, items: Any = None) -> EmbeddingSet:
    """Labels alone, for tests that give the scores."""
    values = np.random.default_rng(0).normal(size=(len(identities), 4))
    return EmbeddingSet.of(values, identities, cameras, items)


def ranked(gallery: Sequence[tuple[Any, Any]], rule: str, query: tuple[Any, Any] = (1, 1)) -> RetrievalResult:
    """One query against `(identity, camera)` in the order of their ranks."""
    scores = GivenScores(-np.arange(len(gallery), dtype=float)[None])
    who, where = zip(*gallery, strict=True)
    names = [f"gallery {at}" for at in range(len(gallery))]
    asked = labelled([query[0]], [query[1]], ["query"])
    return evaluate_retrieval(asked, labelled(who, where, names), matching_rule(rule), scores=scores)


@pytest.mark.parametrize(
    ("ranks", "finite_sum", "trapezoid", "penalty"),
    [
        pytest.param([5], 0.20, 0.10, 0.2, id="a single match at rank 5"),
        pytest.param([1], 1.0, 1.0, 1.0, id="a single match in front"),
        pytest.param([1, 2, 3], 1.0, 1.0, 1.0, id="all in front"),
        # (1/2 + 2/4)/2; ((0 + 1/2)/2 + (1/3 + 2/4)/2)/2
        pytest.param([2, 4], 0.5, (0.25 + 5 / 12) / 2, 0.5, id="every second"),
        pytest.param([1, 10], 0.6, (1.0 + (1 / 9 + 2 / 10) / 2) / 2, 0.2, id="one in front, one last"),
    ],
)
def test_metrics_of_known_ranks(ranks: list[int], finite_sum: float, trapezoid: float, penalty: float) -> None:
    positions = np.array(ranks)
    assert average_precision(positions) == pytest.approx(finite_sum, abs=1e-15)
    assert average_precision_trapezoid(positions) == pytest.approx(trapezoid, abs=1e-15)
    assert inverse_negative_penalty(positions) == pytest.approx(penalty, abs=1e-15)


@pytest.mark.parametrize(
    ("rule", "gallery", "first_rank", "matches", "ranks_taken"),
    [
        # The image of the query's own camera takes no rank: the match moves up to the first.
        pytest.param("market1501", [(1, 1), (1, 2), (2, 1)], 1, 1, 2, id="market: same identity and camera removed"),
        pytest.param("market1501", [(2, 1), (1, 2)], 2, 1, 2, id="market: same camera of another identity is wrong"),
        pytest.param("market1501", [(-1, 2), (-1, 3), (1, 2)], 1, 1, 1, id="market: -1 is removed"),
        pytest.param("market1501", [(0, 2), (0, 3), (1, 2)], 3, 1, 3, id="market: distractors are wrong"),
        pytest.param("market1501", [("0000", 2), ("1", 2)], 2, 1, 2, id="market: distractors as text"),
        pytest.param("dukemtmc", [(1, 1), (0, 2), (1, 2)], 2, 1, 2, id="duke"),
        pytest.param("msmt17", [(1, 1), (-1, 2), (1, 2)], 2, 1, 2, id="msmt17: no junk identity"),
        pytest.param("veri776", [(1, 1), (1, 1), (2, 2), (1, 3), (1, 2)], 2, 2, 3, id="veri"),
        pytest.param("vehicleid", [(2, 1), (1, 1)], 2, 1, 2, id="vehicleid: the same camera counts"),
        pytest.param("none", [(2, 1), (1, 1), (1, 2)], 2, 2, 3, id="none: nothing is removed"),
        pytest.param("market1501", [(1, 1), (2, 2)], 0, 0, 1, id="only the own camera: no match"),
    ],
)
def test_rules_of_the_benchmarks(
    rule: str, gallery: list[tuple[Any, Any]], first_rank: int, matches: int, ranks_taken: int
) -> None:
    result = ranked(gallery, rule)
    assert (result.first_rank[0], result.matches[0], result.ranked[0]) == (first_rank, matches, ranks_taken)


def test_a_query_that_is_a_distractor_matches_nothing() -> None:
    assert ranked([(0, 2), (0, 3)], "market1501", query=(0, 1)).without_match == 1


@pytest.mark.parametrize("rule", MATCHING_RULES)
def test_an_empty_identity_is_nobody_under_every_rule(rule: str) -> None:
    assert ranked([("", 2), ("", 3)], rule, query=("", 1)).without_match == 1
    assert ranked([("", 2), (1, 3)], rule).first_rank[0] == 2


def test_a_set_that_is_its_own_gallery_removes_the_query_itself() -> None:
    images = labelled(["a", "a", "b"], items=["x", "y", "z"])
    scores = GivenScores(np.array([[3.0, 1.0, 2.0], [1.0, 3.0, 2.0], [0.0, 1.0, 3.0]]))
    result = evaluate_retrieval(images, images, matching_rule("cub"), scores=scores)
    assert result.first_rank.tolist() == [2, 2, 0]
    assert result.ranked.tolist() == [2, 2, 2]


def test_queries_without_a_match_are_counted_and_left_out_of_the_means() -> None:
    query = labelled([1, 9], [1, 1])
    gallery = labelled([2, 1], [2, 2])
    result = evaluate_retrieval(
        query, gallery, matching_rule("market1501"), scores=GivenScores([[1.0, 0.0], [1.0, 0.0]])
    )
    means = result.means(ranks=(1, 2))
    assert means["queries"] == 2
    assert means["queries_without_match"] == 1
    assert means["map"] == 0.5
    assert np.isnan(result.ap[1])
    assert (means["cmc_1"], means["cmc_2"]) == (0.0, 1.0)


def test_means_without_any_match_are_undefined() -> None:
    means = ranked([(2, 2)], "market1501").means()
    assert np.isnan([means["map"], means["minp"], means["cmc_1"]]).all()


def test_equal_scores_are_ranked_in_the_order_of_the_gallery() -> None:
    gallery = labelled([2, 1, 3, 1, 2])
    result = evaluate_retrieval(labelled([1]), gallery, matching_rule("none"), scores=GivenScores(np.zeros((1, 5))))
    assert result.first_rank[0] == 2
    assert result.ap[0] == pytest.approx((1 / 2 + 2 / 4) / 2)


def test_removed_images_are_not_counted_among_equals() -> None:
    gallery = labelled([1, -1, 2, 1], [1, 2, 2, 2])
    scores = GivenScores(np.zeros((1, 4)))
    result = evaluate_retrieval(labelled([1], [1]), gallery, matching_rule("market1501"), scores=scores)
    assert (result.first_rank[0], result.ranked[0]) == (2, 2)


def slow_metrics(scores: np.ndarray, query: EmbeddingSet, gallery: EmbeddingSet, rule: MatchingRule) -> list[tuple]:
    """One query after another, one image after another; nothing shared with what is tested."""
    results = []
    for row in range(len(query)):
        order = sorted(range(len(gallery)), key=lambda at: (-scores[row, at], at))
        hits = 0
        precisions = []
        first = last = 0
        recall = areas = 0.0
        old_precision = 1.0
        total = 0
        kept = []
        for at in order:
            who = query.identities[row]
            same = gallery.identities[at] == who and who not in rule.distractors and who != ""
            if gallery.identities[at] in rule.junk:
                continue
            if rule.same_camera_removed and same and gallery.cameras[at] == query.cameras[row]:
                continue
            if rule.itself_removed and gallery.items[at] == query.items[row]:
                continue
            kept.append(same)
            total += same
        for place, good in enumerate(kept, start=1):
            hits += good
            new_recall, precision = hits / total if total else 0.0, hits / place
            areas += (new_recall - recall) * (old_precision + precision) / 2
            recall, old_precision = new_recall, precision
            if good:
                precisions.append(precision)
                first = first or place
                last = place
        if total:
            results.append((sum(precisions) / total, areas, total / last, first, total, len(kept)))
        else:
            results.append((np.nan, np.nan, np.nan, 0, 0, len(kept)))
    return results


@pytest.mark.parametrize("rule", MATCHING_RULES.values(), ids=lambda rule: rule.name)
@pytest.mark.parametrize("levels", [0, 7], ids=["distinct scores", "many ties"])
def test_random_rankings_equal_the_plain_walk(rule: MatchingRule, levels: int) -> None:
    generator = np.random.default_rng(len(rule.name) + levels)
    items = [f"image {at}" for at in range(90)]
    gallery = labelled(generator.integers(-1, 12, 90), generator.integers(0, 4, 90), items)
    query = labelled(generator.integers(0, 14, 40), generator.integers(0, 4, 40), items[:40])
    scores = generator.normal(size=(40, 90))
    if levels:
        scores = np.round(scores * levels / 4)
    result = evaluate_retrieval(query, gallery, rule, scores=GivenScores(scores))
    expected = np.array(slow_metrics(scores, query, gallery, rule))
    assert np.isnan(expected[:, 0]).sum() == result.without_match
    found = [result.ap, result.ap_trapezoid, result.inp, result.first_rank, result.matches, result.ranked]
    np.testing.assert_allclose(np.transpose(found), expected, rtol=0, atol=1e-12)
    scored = expected[expected[:, 4] > 0]
    assert result.means()["map"] == pytest.approx(scored[:, 0].mean(), abs=1e-12)
    np.testing.assert_allclose(result.cmc(90), [(scored[:, 3] <= k).mean() for k in range(1, 91)], atol=1e-12)


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_embeddings_are_compared_as_defined(similarity: str) -> None:
    generator = np.random.default_rng(5)
    query = EmbeddingSet.of(generator.normal(size=(20, 8)), generator.integers(0, 5, 20))
    gallery = EmbeddingSet.of(generator.normal(size=(60, 8)), generator.integers(0, 5, 60))
    if similarity == "cosine":
        lengths = np.linalg.norm(query.embeddings, axis=1)[:, None] * np.linalg.norm(gallery.embeddings, axis=1)
        plain = query.embeddings @ gallery.embeddings.T / lengths
    else:
        plain = -((query.embeddings[:, None] - gallery.embeddings[None]) ** 2).sum(axis=2)
    rule = matching_rule("none")
    found = evaluate_retrieval(query, gallery, rule, similarity=similarity)  # type: ignore[arg-type]
    expected = np.array(slow_metrics(plain, query, gallery, rule))
    np.testing.assert_allclose(found.ap, expected[:, 0], rtol=0, atol=1e-12)


def test_blocks_are_bounded_and_complete() -> None:
    scores = GivenScores(np.arange(70.0).reshape(10, 7))
    parts = list(blocks(scores, cells=21))
    assert [len(part) for _, part in parts] == [3, 3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), np.arange(70.0).reshape(10, 7))


def test_evaluation_leaves_given_scores_as_they_are() -> None:
    scores = np.zeros((1, 2))
    evaluate_retrieval(
        labelled([1], [1]), labelled([-1, 1], [1, 1]), matching_rule("market1501"), scores=GivenScores(scores)
    )
    assert (scores == 0).all()


def test_the_table_keeps_what_a_bootstrap_over_identities_needs() -> None:
    table = ranked([(1, 2), (2, 2)], "market1501").table()
    assert table.loc[0, ["identity", "camera", "ap", "first_rank", "matches", "ranked"]].tolist() == [
        "1",
        "1",
        1,
        1,
        1,
        2,
    ]


def test_missing_cameras_are_named() -> None:
    with pytest.raises(DataError, match="'veri776' needs the camera of each image; 2 of the gallery have none"):
        Matching(labelled([1], [1]), labelled([1, 2]), matching_rule("veri776"))
    with pytest.raises(DataError, match="1 of the queries have none"):
        Matching(labelled([1, 2], [1, ""]), labelled([1], [1]), matching_rule("veri776"))
    Matching(labelled([1], [1]), labelled([1, ""], [1, ""]), matching_rule("veri776"))


def test_missing_names_are_named() -> None:
    with pytest.raises(DataError, match="'cub' knows images by their names, and some of the gallery have none"):
        Matching(labelled([1], items=["a"]), labelled([1]), matching_rule("cub"))


def test_other_channels_and_other_shapes_are_refused() -> None:
    few = EmbeddingSet.of(np.eye(3), [1, 2, 3])
    with pytest.raises(DataError, match="3 channels, the gallery has 4"):
        evaluate_retrieval(few, labelled([1, 2]), matching_rule("none"))
    with pytest.raises(DataError, match=r"scores are \(1, 2\)"):
        evaluate_retrieval(few, few, matching_rule("none"), scores=GivenScores([[1.0, 2.0]]))
    with pytest.raises(DataError, match="finite"):
        GivenScores([[1.0, float("nan")]])


def test_an_unknown_rule_is_told_the_others() -> None:
    with pytest.raises(ValueError, match="market1501, dukemtmc"):
        matching_rule("market")


def test_one_gallery_image_of_each_identity_is_drawn() -> None:
    identities = np.array([3, 3, 3, 1, 1, 2])
    rounds = list(draw_one_gallery_image(identities, rounds=40, generator=np.random.default_rng(0)))
    for query, gallery in rounds:
        assert sorted(identities[gallery]) == [1, 2, 3]
        assert sorted([*query, *gallery]) == list(range(6))
    assert {tuple(gallery) for _, gallery in rounds} == {(a, b, 5) for a in (0, 1, 2) for b in (3, 4)}
    with pytest.raises(DataError, match="no identity among 2 has two images"):
        next(draw_one_gallery_image([1, 2], rounds=1, generator=np.random.default_rng(0)))
