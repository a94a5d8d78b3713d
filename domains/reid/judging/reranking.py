"""k-reciprocal re-ranking in sparse matrices.

    reranked = rerank(query.embeddings, gallery.embeddings)
    evaluate_retrieval(query, gallery, rule, scores=reranked)

Two images are alike when they have the same neighbours. The usual implementation holds several dense matrices of all
images by all images; nearly all of their cells are zero. Here only the others are held, and the final distances are
made block by block: memory grows with the number of images, not with its square.

Source: Zhong et al., "Re-ranking Person Re-identification with k-reciprocal Encoding", CVPR 2017.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.judging.embeddings import comparable
from domains.reid.judging.neighbours import (
    BLOCK_CELLS,
    Neighbours,
    find_neighbours,
    pair_distances,
    squared_distances,
)
from pipelines.errors import DataError, EnvironmentProblem

if TYPE_CHECKING:
    from scipy.sparse import csc_array, csr_array

__all__ = ["MEMORY_LIMIT", "RerankedScores", "rerank", "reranking_memory"]

MEMORY_LIMIT = 8 * 2**30
"""Bytes that re-ranking may take unless told otherwise."""
_ROWS = 4096
"""Images whose overlaps of neighbours are counted at once."""


class RerankedScores:
    """Re-ranked distances with a minus sign, block by block: `Scores` for `evaluate_retrieval`.

    Attributes:
        encoding: Sparse `(N, N)`, queries first: how much each image belongs to the neighbourhood of each.
    """

    def __init__(
        self,
        embeddings: NDArray[Any],
        queries: int,
        furthest: NDArray[Any],
        encoding: csr_array,
        weight: float,
    ) -> None:
        self._embeddings, self._queries, self._furthest = embeddings, queries, furthest
        self.encoding = encoding
        self._gallery_columns: csc_array = encoding[queries:].tocsc()
        self._weight = weight

    @property
    def shape(self) -> tuple[int, int]:
        """Queries and gallery images."""
        return self._queries, len(self._embeddings) - self._queries

    def rows(self, start: int, stop: int) -> NDArray[Any]:
        """Scores of the queries `start` to `stop`: `(stop - start, gallery)`, from -1 to 0."""
        distances = squared_distances(self._embeddings[start:stop], self._embeddings[self._queries :])
        distances *= (self._weight / self._furthest[start:stop])[:, None]
        for at, row in enumerate(range(start, stop)):
            shared = self._shared(row)
            distances[at] += (1 - self._weight) * (1 - shared / (2 - shared))
        return -distances

    def _shared(self, row: int) -> NDArray[np.float64]:
        """Sum of the smaller of two encodings, of a query and each gallery image: `(G,)`."""
        encoding, columns = self.encoding, self._gallery_columns
        own = slice(encoding.indptr[row], encoding.indptr[row + 1])
        starts = columns.indptr[encoding.indices[own]].astype(np.int64)
        lengths = columns.indptr[encoding.indices[own] + 1] - starts
        # The cells of all these columns, one column after the other.
        ends = np.cumsum(lengths)
        cells = np.arange(ends[-1] if len(ends) else 0) + np.repeat(starts - (ends - lengths), lengths)
        smaller = np.minimum(columns.data[cells], np.repeat(encoding.data[own], lengths))
        return np.bincount(columns.indices[cells], weights=smaller, minlength=self.shape[1]).astype(np.float64)


def rerank(
    query: NDArray[Any],
    gallery: NDArray[Any],
    *,
    k1: int = 20,
    k2: int = 6,
    weight: float = 0.3,
    memory_limit: int = MEMORY_LIMIT,
) -> RerankedScores:
    """Re-ranks a gallery for all queries together; the queries are neighbours of one another, too.

    Args:
        query: `(Q, C)`.
        gallery: `(G, C)`.
        k1: Neighbours that are looked at.
        k2: Neighbours whose encodings are averaged; 1 averages nothing.
        weight: Share of the original distance in the final one, 0 to 1 (λ of the paper).
        memory_limit: Bytes; it is refused beforehand when it might take more.

    Raises:
        EnvironmentProblem: It might take more memory than `memory_limit`.
        DataError: Queries and gallery differ in channels, or all embeddings are the same.
    """
    if k1 < 1 or k2 < 1 or not 0 <= weight <= 1:
        raise ValueError(f"k1={k1}, k2={k2}, weight={weight}: k1 and k2 are at least 1, the weight from 0 to 1")
    if query.shape[1] != gallery.shape[1]:
        raise DataError(f"queries have {query.shape[1]} channels, the gallery has {gallery.shape[1]}")
    images = len(query) + len(gallery)
    dtype = np.result_type(query, gallery)
    most = reranking_memory(images, query.shape[1], k1=k1, k2=k2, itemsize=dtype.itemsize)
    if most > memory_limit:
        raise EnvironmentProblem(
            f"re-ranking {images:,} images may take {most / 2**30:.2f} GiB, more than memory_limit = "
            f"{memory_limit / 2**30:.2f} GiB",
            hint="Raise the limit, lower k1 or k2, divide the gallery, or rank without re-ranking.",
        )
    embeddings = np.empty((images, query.shape[1]), dtype=dtype)
    embeddings[: len(query)] = comparable(query, "cosine")
    embeddings[len(query) :] = comparable(gallery, "cosine")
    neighbours = find_neighbours(embeddings, min(k1 + 1, images))
    if not neighbours.furthest.all():
        raise DataError(f"all {images} embeddings are the same; there is nothing to rank")
    encoding = _encode(embeddings, neighbours, k1)
    if k2 > 1:
        encoding = _averaged(encoding, neighbours.order[:, :k2])
    return RerankedScores(embeddings, len(query), neighbours.furthest, encoding, weight)


def reranking_memory(images: int, channels: int, *, k1: int = 20, k2: int = 6, itemsize: int = 4) -> int:
    """The most bytes that re-ranking takes beside its arguments, from the numbers alone.

    The sparse matrices are counted as if every candidate of every neighbourhood were accepted and no two were the same;
    real sets take a fraction of it.
    """
    reach, half = min(k1 + 1, images), min(_half(k1), images)
    cell = itemsize + 8
    encoding = min(reach * (half + 1), images)
    averaged = min(encoding * k2, images)
    # The encoding with its pairs and their distances; its average while both are there; then columns beside rows.
    sparse = images * cell * max(4 * encoding, encoding + 2 * averaged)
    sets = 3 * images * (reach + half) * cell + 2 * min(images, _ROWS) * min(reach * reach, images) * cell
    blocks = max(BLOCK_CELLS, images) * (4 * itemsize + 2 * 8)
    return images * channels * itemsize * 2 + images * reach * 4 + sets + sparse + blocks


def _half(k1: int) -> int:
    return int(np.around(k1 / 2)) + 1


def _encode(embeddings: NDArray[Any], neighbours: Neighbours, k1: int) -> csr_array:
    """Weights of each image's expanded reciprocal neighbours; a row sums to 1.

    It is empty for an image that has so many exact copies that it is not among its own neighbours.
    """
    from scipy.sparse import csr_array, vstack

    images = len(embeddings)
    reciprocal = _reciprocal(neighbours.order)
    candidates = _reciprocal(neighbours.order[:, : _half(k1)])
    sizes = np.diff(candidates.indptr)
    turned = candidates.T.tocsr()
    parts = []
    for start in range(0, images, _ROWS):
        own = reciprocal[start : start + _ROWS]
        overlap = (own @ turned).multiply(own).tocoo()
        # A candidate's own neighbours join when more than two thirds of them are there already.
        accepted = 3 * overlap.data > 2 * sizes[overlap.col]
        joined = csr_array(
            (np.ones(accepted.sum(), dtype=np.int16), (overlap.row[accepted], overlap.col[accepted])), shape=own.shape
        )
        expanded = (own + joined @ candidates).tocsr()
        expanded.sort_indices()
        rows = np.repeat(np.arange(expanded.shape[0]), np.diff(expanded.indptr))
        distances = pair_distances(embeddings, start + rows, expanded.indices) / neighbours.furthest[start + rows]
        weights = np.exp(-distances)
        weights /= np.bincount(rows, weights=weights, minlength=expanded.shape[0])[rows].astype(weights.dtype)
        parts.append(csr_array((weights, expanded.indices, expanded.indptr), shape=expanded.shape))
    return csr_array(vstack(parts, format="csr"))


def _reciprocal(order: NDArray[np.int32]) -> csr_array:
    """`(N, N)`, 1 where two images are among each other's neighbours."""
    from scipy.sparse import csr_array

    images, count = order.shape
    starts = np.arange(0, images * count + 1, count)
    towards = csr_array((np.ones(order.size, dtype=np.int16), order.ravel(), starts), shape=(images, images))
    return csr_array(towards.multiply(towards.T.tocsr()))


def _averaged(encoding: csr_array, nearest: NDArray[np.int32]) -> csr_array:
    """The mean of the encodings of each image's nearest neighbours `(N, k2)`."""
    from scipy.sparse import csr_array

    images, count = nearest.shape
    starts = np.arange(0, images * count + 1, count)
    share = np.full(nearest.size, 1 / count, dtype=encoding.dtype)
    mean = csr_array((share, nearest.ravel(), starts), shape=(images, images)) @ encoding
    mean.sort_indices()
    return csr_array(mean)
