"""The threshold of an index, chosen on the gallery's own images."""

from __future__ import annotations

from typing import Any

import numpy as np

from domains.reid.index.embedding_files import StoredEmbeddings
from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.rules import MatchingRule
from domains.reid.judging.thresholds import threshold_at
from pipelines.errors import DataError

__all__ = ["gallery_threshold"]

_MOST_QUERIES = 4000


def gallery_threshold(gallery: StoredEmbeddings, false_match_rate: float, *, seed: int = 0) -> dict[str, Any]:
    """The threshold at a false-match rate among the images of the gallery, each compared with all others.

    Pairs of one identity by one camera are left out where all cameras are known: they are easier than what a search
    meets. Of large galleries a part of the images asks.

    Returns:
        What `OperatingPoint` holds (the true-match rate is None where no pair is genuine), `asked_for`, and
        `images_that_asked`.

    Raises:
        DataError: No image has an identity, or there are too few pairs for that rate.
    """
    table = gallery.table
    known = np.flatnonzero(table["identity"].to_numpy() != "")
    if not known.size:
        raise DataError(
            "a threshold needs identities, and no image of the gallery has one",
            hint="Give --pattern or --table, or leave --false-match-rate away.",
        )
    images = EmbeddingSet.of(gallery.embeddings, table["identity"], table["camera"], table["item"], name="gallery")
    asking = known
    if len(known) > _MOST_QUERIES:
        asking = np.sort(np.random.default_rng(seed).choice(known, _MOST_QUERIES, replace=False))
    cameras_known = bool((table["camera"].to_numpy()[known] != "").all())
    rule = MatchingRule("gallery", same_camera_removed=cameras_known, itself_removed=True)
    point = threshold_at(false_match_rate, images.take(asking), images, rule)
    genuine = point.true_match_rate if point.genuine_pairs else None
    return {
        **point.as_dict(),
        "true_match_rate": genuine,
        "asked_for": false_match_rate,
        "images_that_asked": len(asking),
    }
