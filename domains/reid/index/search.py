"""Searching a gallery: the most alike images of each query, and who it is, or that it is unknown."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from domains.reid.index.approximate import faiss_is_installed, search_approximate
from domains.reid.index.embedding_files import StoredEmbeddings
from domains.reid.index.gallery import FAISS, GalleryIndex
from domains.reid.judging.embeddings import comparable
from domains.reid.judging.neighbours import nearest
from pipelines.errors import ConfigurationError, DataError

__all__ = ["UNKNOWN", "Found", "Hit", "Status", "search_gallery"]

UNKNOWN = "unknown"
Status = Literal["right", "wrong", "junk", ""]
"""What a hit is when the query's identity is known: of that identity; not; of it but by the same camera."""

_CELLS = 4_000_000


@dataclass(frozen=True)
class Hit:
    """An image of the gallery that was found for a query.

    Attributes:
        rank: From 1; junk takes no rank and has that of the next.
        item: Its name.
        identity: Who or what it is; empty where the gallery does not say.
        camera: Which camera took it; empty where that is not known.
        score: Cosine similarity, -1 to 1.
        source: Its file, relative to the folder of the gallery's images.
        status: Right, wrong or junk, where the query's identity is known.
    """

    rank: int
    item: str
    identity: str
    camera: str
    score: float
    source: str
    status: Status = ""


@dataclass(frozen=True)
class Found:
    """The result of one query.

    Attributes:
        query: Name of the query.
        source: Its file, as it was named.
        identity: Who it is, where known beforehand; empty otherwise.
        answer: The identity of the best hit, or its name where the gallery does not tell who it is; `unknown` when
            its score is below the threshold or nothing was found.
        hits: The best first.
    """

    query: str
    source: str
    identity: str
    answer: str
    hits: tuple[Hit, ...]


def search_gallery(
    index: GalleryIndex,
    queries: StoredEmbeddings,
    *,
    top: int = 10,
    threshold: float | None = None,
    cameras: Collection[str] = (),
    without_cameras: Collection[str] = (),
    exact: bool = False,
) -> list[Found]:
    """The `top` most alike images of the gallery for each query; at equal scores the first of the gallery.

    Args:
        index: The gallery.
        queries: The queries. Where their table tells identity and camera, hits are called right, wrong or junk.
        top: How many hits, junk included.
        threshold: Below this score the answer is `unknown`; None takes that of the index, if it has one.
        cameras: Only images of these cameras are found; none named: of all.
        without_cameras: Images of these cameras are not found.
        exact: Compares with every image even where there is an approximate index.

    Raises:
        DataError: The queries were embedded by another model, or have other channels.
        ConfigurationError: A camera is not in the gallery, or none is left.
    """
    if top < 1:
        raise ConfigurationError(f"top is {top}; at least one hit must be asked for")
    _check_model(index, queries)
    allowed = _allowed(index, cameras, without_cameras)
    limit = index.threshold if threshold is None else threshold
    embeddings = comparable(queries.embeddings, "cosine").astype(np.float32)
    count = min(top, len(index) if allowed is None else int(allowed.sum()))
    if index.record.get("approximate") and faiss_is_installed() and not exact:
        rows, scores = search_approximate(index.folder / FAISS, embeddings, count, allowed)
    else:
        rows, scores = _search_exactly(index.embeddings, embeddings, count, allowed)
    columns = {name: index.table[name].to_numpy() for name in ("item", "identity", "camera", "source")}
    asked = queries.table[["item", "source", "identity", "camera"]].itertuples(index=False, name=None)
    return [
        _found(query, columns, hits[hits >= 0], values[hits >= 0], limit)
        for query, hits, values in zip(asked, rows, scores, strict=True)
    ]


def _check_model(index: GalleryIndex, queries: StoredEmbeddings) -> None:
    if index.model_digest != queries.model_digest:
        raise DataError(
            "the queries were embedded by another model than the gallery: "
            f"{queries.model_digest[:12] or 'unknown'}, the index has {index.model_digest[:12] or 'unknown'}",
            hint="Scores of different models mean nothing. Embed both with one model, or make the index again.",
        )
    if queries.embeddings.shape[1] != index.embeddings.shape[1]:
        raise DataError(
            f"the queries have {queries.embeddings.shape[1]} channels, the gallery has {index.embeddings.shape[1]}"
        )


def _allowed(index: GalleryIndex, cameras: Collection[str], without: Collection[str]) -> NDArray[np.bool_] | None:
    """Which rows may be found; None for all."""
    if not cameras and not without:
        return None
    known = index.table["camera"].to_numpy()
    unknown = sorted({*cameras, *without} - set(known))
    if unknown:
        there = ", ".join(sorted({str(camera) for camera in known if camera})) or "none"
        raise ConfigurationError(f"no camera {', '.join(unknown)} in the gallery; its cameras are: {there}")
    allowed = (np.isin(known, list(cameras)) if cameras else np.ones(len(known), dtype=bool)) & ~np.isin(
        known, list(without)
    )
    if not allowed.any():
        raise ConfigurationError("the cameras that are named leave no image of the gallery")
    return np.asarray(allowed)


def _search_exactly(
    gallery: NDArray[np.float32], queries: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    rows = np.empty((len(queries), count), dtype=np.intp)
    scores = np.empty((len(queries), count), dtype=np.float32)
    step = max(1, _CELLS // len(gallery))
    for start in range(0, len(queries), step):
        part = slice(start, start + step)
        distances = -(queries[part] @ gallery.T)
        if allowed is not None:
            distances[:, ~allowed] = np.inf
        rows[part] = nearest(distances, count)
        scores[part] = -np.take_along_axis(distances, rows[part], axis=1)
    return rows, scores


def _found(
    query: tuple[Any, ...],
    columns: dict[str, NDArray[Any]],
    rows: NDArray[np.intp],
    scores: NDArray[np.float32],
    threshold: float | None,
) -> Found:
    item, source, identity, camera = query
    hits, rank = [], 1
    for row, score in zip(rows.tolist(), scores.tolist(), strict=True):
        who, where = str(columns["identity"][row]), str(columns["camera"][row])
        status: Status = ""
        if identity:
            same_place = bool(camera) and where == camera
            status = ("junk" if same_place else "right") if who == identity else "wrong"
        hits.append(Hit(rank, str(columns["item"][row]), who, where, score, str(columns["source"][row]), status))
        rank += status != "junk"
    best = next((hit for hit in hits if hit.status != "junk"), None)
    below = best is None or (threshold is not None and best.score < threshold)
    answer = UNKNOWN if below or best is None else best.identity or best.item
    return Found(item, source, identity, answer, tuple(hits))
