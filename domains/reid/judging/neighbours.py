"""The nearest neighbours of every image among all, found block by block.

Distances are those of re-ranking: squared Euclidean distances between embeddings of length 1, divided by the largest
distance of the row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK_CELLS", "Neighbours", "find_neighbours", "nearest", "pair_distances", "squared_distances"]

BLOCK_CELLS = 1_000_000
"""Distances held at once."""
_PAIRS = 2048


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Neighbours of each image, itself among them.

    Attributes:
        order: int32 `(N, k)`: the nearest first; at equal distances the one that comes first in the set.
        furthest: `(N,)`: the largest squared distance from each image, by which its distances are divided.
    """

    order: NDArray[np.int32]
    furthest: NDArray[Any]


def squared_distances(rows: NDArray[Any], columns: NDArray[Any]) -> NDArray[Any]:
    """Squared Euclidean distances of embeddings of length 1: `(R, C)` and `(N, C)` → `(R, N)`, never below 0."""
    distances = rows @ columns.T
    distances *= -2
    distances += 2
    np.maximum(distances, 0, out=distances)
    return np.asarray(distances)


def pair_distances(embeddings: NDArray[Any], first: NDArray[Any], second: NDArray[Any]) -> NDArray[Any]:
    """The same for chosen pairs of images: indices `(P,)` and `(P,)` → `(P,)`."""
    distances = np.empty(len(first), dtype=embeddings.dtype)
    for start in range(0, len(first), _PAIRS):
        part = slice(start, start + _PAIRS)
        distances[part] = np.einsum("pc,pc->p", embeddings[first[part]], embeddings[second[part]])
    return np.asarray(np.maximum(2 - 2 * distances, 0))


def find_neighbours(embeddings: NDArray[Any], count: int) -> Neighbours:
    """The `count` nearest images of each, among embeddings `(N, C)` of length 1; `count` is at most N."""
    images = len(embeddings)
    order = np.empty((images, count), dtype=np.int32)
    furthest = np.empty(images, dtype=embeddings.dtype)
    step = max(1, BLOCK_CELLS // images)
    for start in range(0, images, step):
        distances = squared_distances(embeddings[start : start + step], embeddings)
        furthest[start : start + step] = distances.max(axis=1)
        order[start : start + step] = nearest(distances, count)
    return Neighbours(order, furthest)


def nearest(distances: NDArray[Any], count: int) -> NDArray[np.intp]:
    """Indices of the `count` smallest of each row, by distance and then by index: `(R, count)`."""
    chosen = np.argpartition(distances, count - 1, axis=1)[:, :count]
    bound = np.take_along_axis(distances, chosen, axis=1).max(axis=1)
    # Where more images than fit stand at the last distance, the partition took some of them; the first ones are due.
    for row in np.flatnonzero((distances <= bound[:, None]).sum(axis=1) > count):
        nearer = np.flatnonzero(distances[row] < bound[row])
        last = np.flatnonzero(distances[row] == bound[row])[: count - len(nearer)]
        chosen[row] = np.concatenate([nearer, last])
    chosen.sort(axis=1)
    by_distance = np.argsort(np.take_along_axis(distances, chosen, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(chosen, by_distance, axis=1))
