"""How alike each query is to each gallery image, a block of queries at a time, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from domains.reid.judging.embeddings import Similarity, comparable
from pipelines.errors import DataError

__all__ = ["EmbeddingScores", "GivenScores", "Scores", "blocks"]

_CELLS = 4_000_000
"""Scores held at once."""


class Scores(Protocol):
    """Scores of queries against a gallery; the higher, the more alike."""

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and gallery images."""

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Float `(stop - start, gallery)`, a new array that the caller may change."""


class EmbeddingScores:
    """Scores from embeddings `(Q, C)` and `(G, C)`: a matrix product for each block."""

    def __init__(self, query: NDArray[Any], gallery: NDArray[Any], similarity: Similarity = "cosine") -> None:
        if query.shape[1] != gallery.shape[1]:
            raise DataError(
                f"queries have {query.shape[1]} channels, the gallery has {gallery.shape[1]}",
                hint="Embed both with the same model.",
            )
        self._query = comparable(query, similarity)
        self._gallery = comparable(gallery, similarity)
        self._squares = np.einsum("nc,nc->n", self._gallery, self._gallery) if similarity == "euclidean" else None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self._query), len(self._gallery)

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        query = self._query[start:stop]
        scores = query @ self._gallery.T
        if self._squares is not None:
            scores *= 2
            scores -= self._squares
            scores -= np.einsum("nc,nc->n", query, query)[:, None]
        return np.asarray(scores)


class GivenScores:
    """Scores that are there already: `(Q, G)`; of distances, hand over their negative."""

    def __init__(self, scores: ArrayLike) -> None:
        self._scores = np.asarray(scores)
        if self._scores.ndim != 2 or not np.isfinite(self._scores).all():
            raise DataError(f"scores of shape {self._scores.shape} must be (queries, gallery) and finite")

    @property
    def shape(self) -> tuple[int, int]:
        return self._scores.shape[0], self._scores.shape[1]

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        return np.array(self._scores[start:stop])


def blocks(scores: Scores, cells: int = _CELLS) -> Iterator[tuple[int, NDArray[Any]]]:
    """The first query of each block, and the block; about `cells` scores are held at once."""
    queries, gallery = scores.shape
    step = max(1, cells // max(gallery, 1))
    for start in range(0, queries, step):
        yield start, scores.rows(start, min(start + step, queries))
