"""Where the matches of each query stand in its ranking.

All metrics of retrieval follow from the ranks of the matches alone. They are counted, not sorted for: a match stands
behind every image with a higher score, and behind those of the same score that come before it in the gallery. So equal
scores are ranked in the order of the gallery, as a stable sort would.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.judging.embeddings import EmbeddingSet
from domains.reid.judging.rules import MatchingRule
from domains.reid.judging.scores import Scores, blocks
from pipelines.errors import DataError

__all__ = ["Matching", "match_ranks"]


@dataclass(frozen=True)
class Roles:
    """What the gallery is to one query, as far as it is not simply wrong.

    Attributes:
        matches: Indices of the matches, ascending.
        removed: Indices of what is removed, ascending; without junk that is removed for every query.
    """

    matches: NDArray[np.intp]
    removed: NDArray[np.intp]


class Matching:
    """A rule, applied to a set of queries and a gallery.

    Args:
        query: The queries.
        gallery: The gallery.
        rule: The rule.

    Attributes:
        junk: Indices of the gallery images that are removed for every query.

    Raises:
        DataError: The rule needs cameras or names, and they are not known for every image (for cameras, those of
            distractors do not matter).
    """

    def __init__(self, query: EmbeddingSet, gallery: EmbeddingSet, rule: MatchingRule) -> None:
        for name, part in (("queries", query), ("gallery", gallery)):
            if rule.same_camera_removed and (missing := _without_camera(part)):
                raise DataError(
                    f"the rule {rule.name!r} needs the camera of each image; {missing} of the {name} have none",
                    hint="Give cameras, or use the rule 'none' where queries and gallery share no camera.",
                )
            if rule.itself_removed and (part.items == "").any():
                raise DataError(f"the rule {rule.name!r} knows images by their names, and some of the {name} have none")
        self._query, self._gallery, self._rule = query, gallery, rule
        self.junk = np.flatnonzero(np.isin(gallery.identities, sorted(rule.junk)))
        self._of_identity = _members(gallery.identities)
        self._of_item = _members(gallery.items) if rule.itself_removed else {}

    def roles(self, row: int) -> Roles:
        """What the gallery is to the query of that row."""
        none = np.zeros(0, dtype=np.intp)
        identity = str(self._query.identities[row])
        removed = self._of_item.get(str(self._query.items[row]), none)
        if self._rule.is_nobody(identity):
            return Roles(none, removed)
        same = self._of_identity.get(identity, none)
        if self._rule.same_camera_removed and self._gallery.cameras is not None and self._query.cameras is not None:
            seen_here = self._gallery.cameras[same] == self._query.cameras[row]
            removed = np.union1d(removed, same[seen_here]) if len(removed) else same[seen_here]
            same = same[~seen_here]
        if self._rule.itself_removed:
            same = np.setdiff1d(same, removed, assume_unique=True)
        return Roles(same, removed)


def match_ranks(scores: Scores, matching: Matching) -> Iterator[tuple[int, NDArray[np.intp], int]]:
    """For each query its row, the ranks of its matches (ascending, counted from 1), and how many images take a rank.

    The scores are read block by block; one block and a sorted copy of it are what is held in memory.
    """
    for start, block in blocks(scores):
        block[:, matching.junk] = -np.inf
        roles = [matching.roles(start + at) for at in range(len(block))]
        for values, role in zip(block, roles, strict=True):
            values[role.removed] = -np.inf
        ascending = np.sort(block, axis=1)
        for at, role in enumerate(roles):
            left_out = int(np.searchsorted(ascending[at], -np.inf, side="right"))
            yield start + at, _ranks(block[at], ascending[at], role.matches), block.shape[1] - left_out


def _ranks(values: NDArray[Any], ascending: NDArray[Any], matches: NDArray[np.intp]) -> NDArray[np.intp]:
    own = values[matches]
    behind = np.searchsorted(ascending, own, side="left")
    ahead = len(ascending) - np.searchsorted(ascending, own, side="right")
    ranks = ahead + 1
    tied = np.flatnonzero(behind + ahead + 1 < len(ascending))
    for at in tied:
        ranks[at] += np.count_nonzero(values[: matches[at]] == own[at])
    ranks.sort()
    return np.asarray(ranks)


def _without_camera(images: EmbeddingSet) -> int:
    """How many images have an identity but no camera."""
    if images.cameras is None:
        return len(images)
    return int(np.count_nonzero((images.cameras == "") & (images.identities != "")))


def _members(labels: NDArray[np.str_]) -> dict[str, NDArray[np.intp]]:
    """Label → ascending indices."""
    order = np.argsort(labels, kind="stable")
    names, starts = np.unique(labels[order], return_index=True)
    return {str(name): part for name, part in zip(names, np.split(order, starts[1:]), strict=True)}
