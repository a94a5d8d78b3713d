"""FAISS, for galleries that are too large to compare with all of: an inverted file, with its recall measured.

faiss is optional (`pip install 'pulvinar[search]'`).
Source: Johnson et al., "Billion-scale similarity search with GPUs", IEEE Transactions on Big Data 2021.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["build_approximate", "faiss_is_installed", "search_approximate"]

_PROBED_SHARE = 16
"""One in so many cells is looked into."""
_SAMPLE = 256
_TOP = 10
_TRAINING_IMAGES_PER_CELL = 64


def faiss_is_installed() -> bool:
    """Whether faiss can be imported."""
    return find_spec("faiss") is not None


def build_approximate(embeddings: NDArray[np.float32], path: Path, *, seed: int = 0) -> dict[str, Any]:
    """Builds an inverted file over embeddings `(N, C)` of length 1, writes it, and measures what it finds.

    Returns:
        `cells`, `probed`, and `recall_at_10`: the share of the ten nearest images of sampled ones that it finds.
    """
    import faiss

    images, channels = embeddings.shape
    cells = max(1, int(2 * np.sqrt(images)))
    generator = np.random.default_rng(seed)
    training = generator.choice(images, min(images, cells * _TRAINING_IMAGES_PER_CELL), replace=False)
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(channels), channels, cells, faiss.METRIC_INNER_PRODUCT)
    index.cp.seed = seed + 1
    index.train(embeddings[np.sort(training)])
    index.add(embeddings)
    index.nprobe = max(1, cells // _PROBED_SHARE)
    faiss.write_index(index, str(path))
    sample = embeddings[generator.choice(images, min(images, _SAMPLE), replace=False)]
    count = min(_TOP, images)
    exact = np.argpartition(-(sample @ embeddings.T), count - 1, axis=1)[:, :count]
    _, found = index.search(sample, count)
    shared = [len(set(left) & set(right)) for left, right in zip(exact.tolist(), found.tolist(), strict=True)]
    return {
        "method": "inverted file",
        "cells": cells,
        "probed": int(index.nprobe),
        "recall_at_10": round(float(np.mean(shared)) / count, 4),
    }


def search_approximate(
    path: Path, queries: NDArray[np.float32], count: int, allowed: NDArray[np.bool_] | None
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Rows and scores of up to `count` near images for each query, best first; -1 where fewer were found.

    Args:
        path: The file that `build_approximate` wrote.
        queries: `(Q, C)` of length 1.
        count: How many.
        allowed: `(N,)`, which images may be found; None for all.
    """
    import faiss

    index: Any = faiss.read_index(str(path))
    parameters: Any = faiss.SearchParametersIVF()
    parameters.nprobe = index.nprobe
    if allowed is not None:
        parameters.sel = faiss.IDSelectorBatch(np.flatnonzero(allowed))
    scores, rows = index.search(np.ascontiguousarray(queries, np.float32), count, params=parameters)
    return rows.astype(np.intp), scores
