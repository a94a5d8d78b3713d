"""Embeddings with the labels that judging needs, checked before anything is computed from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.errors import DataError

__all__ = ["EmbeddingSet", "Similarity", "check_embeddings", "comparable", "merge_sets"]

Similarity = Literal["cosine", "euclidean"]
"""How alike two embeddings are: the cosine of their angle, or their squared distance with a minus sign."""

_COLLAPSED = 1e-6
"""Directions that differ by no more than rounding of float32 are the same."""


@dataclass(frozen=True, eq=False)
class EmbeddingSet:
    """Embeddings of images, with who is on them and which camera took them.

    Attributes:
        embeddings: Float `(N, C)`, checked: finite, no empty row, not all the same.
        identities: `(N,)` text.
        cameras: `(N,)` text, or None where cameras are not known.
        items: `(N,)` text, the name of each image; empty where no names are given.
    """

    embeddings: NDArray[Any]
    identities: NDArray[np.str_]
    cameras: NDArray[np.str_] | None
    items: NDArray[np.str_]

    @classmethod
    def of(
        cls,
        embeddings: ArrayLike,
        identities: ArrayLike,
        cameras: ArrayLike | None = None,
        items: ArrayLike | None = None,
        *,
        name: str = "embeddings",
    ) -> EmbeddingSet:
        """Takes what arrays and lists hold: numbers or text as labels.

        Raises:
            DataError: The embeddings cannot be judged, or labels and embeddings differ in number. `name` tells which.
        """
        values = check_embeddings(embeddings, name)
        return cls(
            values,
            _labels(identities, len(values), f"{name}: identities"),
            None if cameras is None else _labels(cameras, len(values), f"{name}: cameras"),
            _labels([""] * len(values) if items is None else items, len(values), f"{name}: items"),
        )

    def __len__(self) -> int:
        return len(self.embeddings)

    def take(self, rows: ArrayLike) -> EmbeddingSet:
        """Some of the rows, by index or by a bool mask; it may be one row only."""
        chosen = np.asarray(rows)
        return EmbeddingSet(
            self.embeddings[chosen],
            self.identities[chosen],
            None if self.cameras is None else self.cameras[chosen],
            self.items[chosen],
        )


def check_embeddings(embeddings: ArrayLike, name: str = "embeddings", *, copies_allowed: bool = False) -> NDArray[Any]:
    """The embeddings as an array `(N, C)` of float32 or float64.

    Args:
        embeddings: One row for each image.
        name: What errors call them.
        copies_allowed: They may be all the same, as a few images that are searched for may be.

    Raises:
        DataError: It is no table of numbers, it is empty, a value is NaN or infinite, a row is all zeros, or all rows
            point in the same direction (a collapsed network): every metric would then only tell the order of the files.
    """
    values = np.asarray(embeddings)
    if values.ndim != 2 or 0 in values.shape:
        raise DataError(f"{name}: an array of shape {values.shape}; embeddings are (images, channels), not empty")
    if values.dtype.kind not in "fiu":
        raise DataError(f"{name}: values of type {values.dtype}; embeddings are real numbers")
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float32 if values.dtype == np.float16 else np.float64)
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise DataError(
            f"{name}: {int((~finite).sum())} of {len(values)} rows hold NaN or infinity, the first is row "
            f"{int(np.argmin(finite))}",
            hint="The network diverged, or its weights are damaged: look at the loss of its training.",
        )
    lengths = np.linalg.norm(values, axis=1)
    if not lengths.all():
        raise DataError(f"{name}: row {int(np.argmin(lengths))} is all zeros; it has no direction to compare")
    if len(values) > 1 and not copies_allowed:
        first = values[0] / lengths[0]
        if np.abs(values / lengths[:, None] - first).max() <= _COLLAPSED:
            raise DataError(
                f"{name}: all {len(values)} rows are the same; the network has collapsed",
                hint="Lower the learning rate or the weight of the metric loss, and train again.",
            )
    return values


def comparable(embeddings: NDArray[Any], similarity: Similarity) -> NDArray[Any]:
    """Rows ready to be compared: of length 1 for the cosine, as they are otherwise."""
    if similarity == "euclidean":
        return embeddings
    if similarity != "cosine":
        raise ValueError(f"similarity {similarity!r} is not known; use 'cosine' or 'euclidean'")
    return np.asarray(embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True))


def merge_sets(sets: Mapping[str, EmbeddingSet], *, keep: Sequence[str] = ()) -> EmbeddingSet:
    """Several sets as one gallery. Identities and cameras get the name of their set in front: `market/0012`.

    Args:
        sets: Name → set; all of one number of channels.
        keep: Identities that mean the same in every set and keep their name (`-1` for junk, say).

    Raises:
        DataError: The sets differ in channels, or only some of them know their cameras.
    """
    if not sets:
        raise ValueError("no set to merge")
    channels = {name: part.embeddings.shape[1] for name, part in sets.items()}
    if len(set(channels.values())) > 1:
        raise DataError(f"sets of different channels cannot be merged: {channels}", hint="Embed them with one model.")
    without = [name for name, part in sets.items() if part.cameras is None]
    if without and len(without) < len(sets):
        raise DataError(f"{', '.join(without)}: no cameras, while the other sets have them")

    return EmbeddingSet(
        np.concatenate([part.embeddings for part in sets.values()]),
        np.concatenate([_prefixed(name, part.identities, keep) for name, part in sets.items()]),
        None
        if without
        else np.concatenate([_prefixed(name, part.cameras) for name, part in sets.items() if part.cameras is not None]),
        np.concatenate([_prefixed(name, part.items) for name, part in sets.items()]),
    )


def _prefixed(name: str, labels: NDArray[np.str_], keep: Sequence[str] = ()) -> NDArray[np.str_]:
    return np.array([label if label in keep else f"{name}/{label}" for label in labels.tolist()], dtype=np.str_)


def _labels(values: ArrayLike, count: int, name: str) -> NDArray[np.str_]:
    labels = np.asarray(values if isinstance(values, np.ndarray) else list(values))  # type: ignore[arg-type]
    if labels.shape != (count,):
        raise DataError(f"{name}: shape {labels.shape}, but there are {count} embeddings")
    return np.asarray(labels, dtype=np.str_)
