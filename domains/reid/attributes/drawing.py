"""Ranked lists of an attribute: who is nearest by type, by viewpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from domains.reid.attributes.judgement import value_of
from domains.reid.images import ImageInput, picture_or_none
from domains.reid.index.pictures import Row, Tile, draw_ranked_lists
from domains.reid.judging.retrieval import average_precision
from pipelines.cases import Case
from pipelines.task import Figure, Observation

__all__ = ["draw_attribute"]

_WORST = 3
_SHOWN = 10


def draw_attribute(
    cases: Sequence[Case], observed: Mapping[str, Observation], attribute: str, place: int, given: ImageInput
) -> list[Figure]:
    """The worst queries of an attribute, and the best one last; nothing where no picture can be found by it.

    Args:
        cases: The cases of a part.
        observed: Case id → `embedding` `(A, D)`.
        attribute: The attribute.
        place: Its row in an embedding.
        given: How large pictures are shown.
    """
    known = [case for case in cases if value_of(case, attribute) and "embedding" in observed.get(case.case_id, {})]
    if len(known) < 2:
        return []
    vectors = np.stack([observed[case.case_id]["embedding"][place] for case in known])
    values = np.array([value_of(case, attribute) for case in known])
    groups = np.array([case.group for case in known])
    ranked = []
    for row in range(len(known)):
        order = np.argsort(-(vectors @ vectors[row]), kind="stable")
        # Pictures of the same group show the same thing; they are not judged, and not shown.
        order = order[groups[order] != groups[row]]
        ranks = np.flatnonzero(values[order] == values[row]) + 1
        if len(ranks):
            ranked.append((average_precision(ranks), row, order[:_SHOWN]))
    if not ranked:
        return []
    ranked.sort(key=lambda found: found[:2])
    chosen = [*ranked[:_WORST], ranked[-1]] if len(ranked) > _WORST else ranked
    rows = []
    for precision, row, order in chosen:
        asked = Tile(picture_or_none(given, known[row]), f"{attribute} {values[row]}", f"AP {precision:.3f}")
        tiles = [
            Tile(
                picture_or_none(given, known[other]),
                str(values[other]),
                f"{vectors[other] @ vectors[row]:.3f}",
                "right" if values[other] == values[row] else "wrong",
            )
            for other in order.tolist()
        ]
        rows.append(Row(asked, tiles))
    caption = (
        f"Nearest by {attribute}: ranked lists of the worst queries and of the best one; green has the same value, red "
        "another. Pictures of the same group are left out."
    )
    return [Figure(f"ranked-lists-{place + 1}", draw_ranked_lists(rows, height=96), caption)]
