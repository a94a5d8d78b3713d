"""Sparse re-ranking against the dense algorithm, written out again; and the memory it says it takes."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.neighbours import find_neighbours
from domains.reid.judging.reranking import rerank, reranking_memory
from domains.reid.judging.retrieval import evaluate_retrieval
from domains.reid.judging.rules import matching_rule
from pipelines.errors import DataError, EnvironmentProblem


def clustered(
    identities: int, images: int, channels: int, *, spread: float, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings `(identities * images, channels)` about a centre for each identity, mixed; and the identities."""
    generator = np.random.default_rng(seed)
    labels = generator.permutation(np.repeat(np.arange(identities), images))
    centres = generator.normal(size=(identities, channels))
    return centres[labels] + spread * generator.normal(size=(len(labels), channels)), labels


def dense_reranking(query: np.ndarray, gallery: np.ndarray, k1: int, k2: int, weight: float) -> np.ndarray:
    """The paper's algorithm with one matrix of all by all for each quantity. Distances `(Q, G)`."""
    features = np.concatenate([query, gallery])
    features = features / np.linalg.norm(features, axis=1, keepdims=True)
    count = len(features)
    original = np.array([((features - row) ** 2).sum(axis=1) for row in features])
    original /= original.max(axis=1, keepdims=True)
    order = np.argsort(original, axis=1, kind="stable")

    def mutual(image: int, k: int) -> list[int]:
        return [other for other in order[image, : k + 1] if image in order[other, : k + 1]]

    encoding = np.zeros((count, count))
    for image in range(count):
        near = mutual(image, k1)
        expanded = set(near)
        for candidate in near:
            theirs = mutual(candidate, round(k1 / 2))
            if len(set(theirs) & set(near)) > 2 / 3 * len(theirs):
                expanded |= set(theirs)
        members = sorted(expanded)
        encoding[image, members] = np.exp(-original[image, members])
        encoding[image] /= encoding[image].sum() or 1.0
    if k2 > 1:
        encoding = np.array([encoding[order[image, :k2]].mean(axis=0) for image in range(count)])
    smaller = np.array([np.minimum(encoding[row], encoding).sum(axis=1) for row in range(len(query))])
    larger = np.array([np.maximum(encoding[row], encoding).sum(axis=1) for row in range(len(query))])
    final = (1 - weight) * (1 - smaller / larger) + weight * original[: len(query)]
    return final[:, len(query) :]


@pytest.mark.parametrize(
    ("k1", "k2", "weight", "identities", "images", "spread"),
    [
        pytest.param(20, 6, 0.3, 6, 30, 0.9, id="the paper's values"),
        pytest.param(5, 1, 0.3, 25, 8, 0.6, id="no average"),
        pytest.param(7, 3, 0.0, 25, 8, 1.2, id="overlap alone, odd k1"),
        pytest.param(6, 2, 1.0, 25, 8, 0.6, id="distance alone"),
        pytest.param(60, 6, 0.3, 5, 9, 0.6, id="k1 beyond the set"),
    ],
)
def test_sparse_equals_dense(k1: int, k2: int, weight: float, identities: int, images: int, spread: float) -> None:
    values, _ = clustered(identities, images, 12, spread=spread)
    query, gallery = values[:30], values[30:]
    found = -rerank(query, gallery, k1=k1, k2=k2, weight=weight).rows(0, 30)
    expected = dense_reranking(query, gallery, k1, k2, weight)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    if weight > 0:
        np.testing.assert_array_equal(
            np.argsort(found, axis=1, kind="stable"), np.argsort(expected, axis=1, kind="stable")
        )


def test_the_candidates_of_neighbours_do_join() -> None:
    """The comparison above would also pass if no neighbourhood were ever expanded."""
    values, _ = clustered(7, 30, 12, spread=0.9)
    encoding = rerank(values[:30], values[30:], k1=20, k2=1).encoding
    assert np.diff(encoding.indptr).max() > 21
    np.testing.assert_allclose(encoding.sum(axis=1), 1.0, atol=1e-12)


def test_reranking_helps_where_neighbours_tell_more_than_distances() -> None:
    values, labels = clustered(25, 12, 16, spread=1.0, seed=3)
    query, gallery = EmbeddingSet.of(values[:60], labels[:60]), EmbeddingSet.of(values[60:], labels[60:])
    rule = matching_rule("none")
    plain = evaluate_retrieval(query, gallery, rule).means()["map"]
    scores = rerank(query.embeddings, gallery.embeddings, k1=10, k2=4)
    assert evaluate_retrieval(query, gallery, rule, scores=scores).means()["map"] > plain + 0.05


def test_more_copies_of_an_image_than_neighbours_are_ranked_without_nan() -> None:
    values, _ = clustered(6, 6, 8, spread=0.5)
    values = np.concatenate([values, np.repeat(values[:1], 30, axis=0)])
    scores = rerank(values[:5], values[5:], k1=8, k2=3)
    assert np.isfinite(scores.rows(0, 5)).all()


def test_neighbours_at_equal_distance_are_taken_in_order() -> None:
    """Six corners of a cross: each is as far from four others."""
    cross = np.concatenate([np.eye(3), -np.eye(3)])
    neighbours = find_neighbours(cross, 3)
    assert neighbours.order.tolist() == [[0, 1, 2], [1, 0, 2], [2, 0, 1], [3, 1, 2], [4, 0, 2], [5, 0, 1]]
    np.testing.assert_allclose(neighbours.furthest, 4.0)


@pytest.mark.parametrize(
    ("identities", "images", "channels", "spread"),
    [
        pytest.param(60, 25, 32, 0.8, id="large neighbourhoods"),
        pytest.param(1500, 1, 64, 1.0, id="none"),
        pytest.param(3, 500, 8, 0.1, id="crowds"),
    ],
)
def test_it_takes_no_more_memory_than_it_says(identities: int, images: int, channels: int, spread: float) -> None:
    values, _ = clustered(identities, images, channels, spread=spread)
    query, gallery = values[:100].astype(np.float32), values[100:].astype(np.float32)
    rerank(query[:10], gallery[:50], k1=5, k2=2)  # imports
    tracemalloc.start()
    rerank(query, gallery).rows(0, 50)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= reranking_memory(len(values), channels)


def test_the_estimate_grows_with_the_images_not_with_their_square() -> None:
    assert reranking_memory(2_000_000, 512) < 2.01 * reranking_memory(1_000_000, 512)


def test_too_large_a_set_is_refused_beforehand_by_the_name_of_the_limit() -> None:
    values, _ = clustered(10, 10, 8, spread=0.5)
    with pytest.raises(
        EnvironmentProblem, match=r"re-ranking 100 images may take .* more than memory_limit = 0.00 GiB"
    ):
        rerank(values[:10], values[10:], memory_limit=2**20)


def test_what_cannot_be_reranked_is_refused() -> None:
    values, _ = clustered(10, 2, 8, spread=0.5)
    with pytest.raises(ValueError, match="weight=2"):
        rerank(values, values, weight=2)
    with pytest.raises(DataError, match="8 channels, the gallery has 4"):
        rerank(values, values[:, :4])
    with pytest.raises(DataError, match="all 4 embeddings are the same"):
        rerank(np.ones((2, 3)), np.ones((2, 3)))
