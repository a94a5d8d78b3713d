"""Which gallery images count for a query: the rules of the benchmarks.

An image of the gallery is, for one query,
    a match      the same identity, and not removed;
    wrong        another identity, or a distractor;
    removed      of no meaning for this query: it takes no rank, as if it were not there ("junk").

An empty identity is nobody: a distractor under every rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pipelines.errors import DataError

__all__ = ["MATCHING_RULES", "MatchingRule", "draw_one_gallery_image", "matching_rule"]


@dataclass(frozen=True)
class MatchingRule:
    """What is removed, and what never matches.

    Attributes:
        name: As a workflow names it.
        same_camera_removed: Images of the query's identity taken by the query's camera are removed.
        junk: Identities (as text) whose images are removed for every query: bad detections.
        distractors: Identities (as text), besides the empty one, that are always wrong.
        itself_removed: The image of the same name as the query is removed, for sets that are their own gallery.
        summary: The benchmark and its rule in one line.
    """

    name: str
    same_camera_removed: bool = False
    junk: frozenset[str] = frozenset()
    distractors: frozenset[str] = frozenset()
    itself_removed: bool = False
    summary: str = ""

    def is_nobody(self, identity: str) -> bool:
        """Whether images of this identity match nothing, each other included."""
        return not identity or identity in self.distractors or identity in self.junk


_RULES = (
    MatchingRule(
        "market1501",
        same_camera_removed=True,
        junk=frozenset({"-1"}),
        distractors=frozenset({"0", "0000"}),
        summary="Market-1501: same identity and camera removed, identity -1 removed, identity 0 a distractor",
    ),
    MatchingRule("dukemtmc", same_camera_removed=True, summary="DukeMTMC-reID: same identity and camera removed"),
    MatchingRule("msmt17", same_camera_removed=True, summary="MSMT17: same identity and camera removed"),
    MatchingRule("veri776", same_camera_removed=True, summary="VeRi-776: same identity and camera removed"),
    MatchingRule(
        "vehicleid",
        summary="VehicleID: nothing removed; one image of each vehicle, drawn at random, is the gallery",
    ),
    MatchingRule("cub", itself_removed=True, summary="CUB and other retrieval sets: each image against all others"),
    MatchingRule(
        "cameras", same_camera_removed=True, summary="own data with cameras: same identity and camera removed"
    ),
    MatchingRule("none", summary="nothing removed: queries and gallery share no image"),
)

MATCHING_RULES = {rule.name: rule for rule in _RULES}
"""Name → rule."""


def matching_rule(name: str) -> MatchingRule:
    """The rule of that name. Raises `ValueError` that lists the others."""
    try:
        return MATCHING_RULES[name]
    except KeyError:
        raise ValueError(f"unknown matching rule {name!r}; use one of: {', '.join(MATCHING_RULES)}") from None


def draw_one_gallery_image(
    identities: ArrayLike, *, rounds: int, generator: np.random.Generator
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """The protocol of VehicleID: in each round one image of each identity is the gallery, all others are queries.

    Args:
        identities: `(N,)`, of the test images.
        rounds: How often to draw; ten are usual, and their mean is reported.
        generator: Source of randomness.

    Yields:
        The indices of the queries and of the gallery, both ascending.

    Raises:
        DataError: No identity has two images, so that nothing could be a query.

    Source: Liu et al., "Deep Relative Distance Learning", CVPR 2016, section 5.
    """
    labels = np.asarray(identities)
    _, codes, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if not counts.size or counts.max() < 2:
        raise DataError(f"no identity among {len(counts)} has two images; one goes to the gallery, the others ask")
    for _ in range(rounds):
        # The first of each identity in a random order is a uniform draw from its images.
        order = generator.permutation(len(labels))
        _, first = np.unique(codes[order], return_index=True)
        in_gallery = np.zeros(len(labels), dtype=bool)
        in_gallery[order[first]] = True
        yield np.flatnonzero(~in_gallery), np.flatnonzero(in_gallery)
