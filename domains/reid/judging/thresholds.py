"""From which score on two images are called the same: the threshold at a chosen false-match rate.

A pair of a query and a gallery image is *genuine* when the rule calls it a match and *impostor* when it does not;
removed pairs are neither, and queries of nobody are left out. Rates are shares of pairs. A search of a gallery of G
images compares each query with all of them, so its chance of a false alarm is up to G times the false-match rate.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import floor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.reid.judging.embeddings import EmbeddingSet, Similarity
from domains.reid.judging.matching import Matching
from domains.reid.judging.rules import MatchingRule
from domains.reid.judging.scores import EmbeddingScores, Scores, blocks
from pipelines.errors import DataError

__all__ = ["OperatingPoint", "threshold_at", "verification_rates"]


@dataclass(frozen=True)
class OperatingPoint:
    """A threshold and what it does on the pairs it was chosen on, or is judged on.

    Attributes:
        threshold: Two images are called the same when their score is at least this.
        false_match_rate: Share of the impostor pairs that are called the same.
        true_match_rate: Share of the genuine pairs that are called the same; NaN where there are none.
        impostor_pairs: How many there are.
        genuine_pairs: How many there are.
    """

    threshold: float
    false_match_rate: float
    true_match_rate: float
    impostor_pairs: int
    genuine_pairs: int

    def as_dict(self) -> dict[str, float | int]:
        """Plain values."""
        return asdict(self)


def threshold_at(
    false_match_rate: float,
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    rule: MatchingRule,
    *,
    similarity: Similarity = "cosine",
    scores: Scores | None = None,
) -> OperatingPoint:
    """The lowest threshold whose false-match rate is not above the chosen one.

    Args:
        false_match_rate: Above 0 and below 1, for example 1e-3.
        query: The queries. Use images of identities that the network was not trained on.
        gallery: The gallery.
        rule: What counts as a pair.
        similarity: How embeddings are compared.
        scores: Scores from elsewhere, instead of those of the embeddings.

    Raises:
        ValueError: The rate is not between 0 and 1.
        DataError: There are fewer than `1 / false_match_rate` impostor pairs: such a rate cannot be measured on them.
    """
    if not 0 < false_match_rate < 1:
        raise ValueError(f"false_match_rate {false_match_rate} is not between 0 and 1")
    pairs = _Pairs(query, gallery, rule, similarity, scores)
    # The highest impostor scores are kept, as many as could be needed, and one more.
    room = floor(false_match_rate * len(query) * len(gallery)) + 1
    highest = np.zeros(0)
    for impostor in pairs:
        highest = np.concatenate([highest, impostor])
        if len(highest) > 2 * room:
            highest = np.partition(highest, len(highest) - room)[-room:]
    if pairs.impostors * false_match_rate < 1:
        raise DataError(
            f"a false-match rate of {false_match_rate:g} needs at least {np.ceil(1 / false_match_rate):,.0f} impostor "
            f"pairs, and there are {pairs.impostors:,}",
            hint="Choose a higher rate, or use more images.",
        )
    highest = np.sort(highest)[::-1]
    allowed = floor(false_match_rate * pairs.impostors)
    threshold = float(np.nextafter(highest[allowed].astype(pairs.dtype), np.inf))
    return pairs.at(threshold, int(np.count_nonzero(highest >= threshold)))


def verification_rates(
    threshold: float,
    query: EmbeddingSet,
    gallery: EmbeddingSet,
    rule: MatchingRule,
    *,
    similarity: Similarity = "cosine",
    scores: Scores | None = None,
) -> OperatingPoint:
    """What a threshold that was chosen elsewhere does on these pairs."""
    pairs = _Pairs(query, gallery, rule, similarity, scores)
    return pairs.at(threshold, sum(int(np.count_nonzero(impostor >= threshold)) for impostor in pairs))


class _Pairs:
    """The scores of impostor pairs, block by block; those of genuine pairs are kept on the way."""

    def __init__(
        self,
        query: EmbeddingSet,
        gallery: EmbeddingSet,
        rule: MatchingRule,
        similarity: Similarity,
        scores: Scores | None,
    ) -> None:
        self._matching = Matching(query, gallery, rule)
        self._asks = [not rule.is_nobody(str(identity)) for identity in query.identities]
        self._scores = scores or EmbeddingScores(query.embeddings, gallery.embeddings, similarity)
        self._genuine: list[NDArray[Any]] = []
        self.impostors = 0
        self.dtype = np.dtype(np.float64)

    def __iter__(self) -> Any:
        for start, block in blocks(self._scores):
            self.dtype = block.dtype
            impostor = np.ones(block.shape, dtype=bool)
            impostor[:, self._matching.junk] = False
            for at, values in enumerate(block):
                role = self._matching.roles(start + at)
                impostor[at, role.removed] = False
                impostor[at, role.matches] = False
                impostor[at] &= self._asks[start + at]
                self._genuine.append(values[role.matches])
            found = block[impostor]
            self.impostors += len(found)
            yield found

    def at(self, threshold: float, false_matches: int) -> OperatingPoint:
        genuine = np.concatenate(self._genuine) if self._genuine else np.zeros(0)
        return OperatingPoint(
            threshold,
            false_matches / self.impostors if self.impostors else float("nan"),
            float((genuine >= threshold).mean()) if len(genuine) else float("nan"),
            self.impostors,
            len(genuine),
        )
