"""Seeded draws of whole groups: a share of the cases or k folds, in proportion to a label where the groups allow it."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pipelines.cases import Case
from pipelines.errors import DataError

__all__ = ["draw_folds", "draw_share", "strata_of"]

_MOST_VALUES = 10
"""A numeric label with more distinct values than this is cut at its quartiles."""


def strata_of(cases: Sequence[Case], label: str | None, notes: list[str]) -> dict[str, str]:
    """Case id → what it is to be kept in proportion by. Cases without the label are a stratum of their own.

    Raises:
        DataError: No case has a label of that name.
    """
    if label is None:
        return {case.case_id: "" for case in cases}
    known = sorted({name for case in cases for name in case.labels})
    if label not in known:
        raise DataError(
            f"split.stratify names the label {label!r}; the cases have {', '.join(known) or 'no labels'}",
            hint="Name a label column of the cases, or leave split.stratify out.",
        )
    values = {case.case_id: case.labels.get(label) for case in cases}
    numbers = [value for value in values.values() if isinstance(value, int | float)]
    if len(set(numbers)) > _MOST_VALUES and all(
        value is None or isinstance(value, int | float) for value in values.values()
    ):
        import numpy as np

        edges = np.unique(np.quantile(numbers, (0.25, 0.5, 0.75)))
        notes.append(f"label {label!r} is cut at its quartiles: {', '.join(f'{edge:g}' for edge in edges)}")
        return {
            case_id: "" if value is None else f"quartile {int(np.searchsorted(edges, value, side='right')) + 1}"
            for case_id, value in values.items()
        }
    return {case_id: "" if value is None else str(value) for case_id, value in values.items()}


def draw_share(
    cases: Sequence[Case], strata: Mapping[str, str], share: float, seed: tuple[int, ...], *, leave_one: bool = True
) -> set[str]:
    """Groups that hold about `share` of the cases, of each stratum alike; at least one group.

    Args:
        cases: Cases in a fixed order.
        strata: Case id → stratum. A group whose cases differ makes a stratum of its mixture.
        share: Wanted share of the cases, above 0 and below 1.
        seed: Seed of the draw.
        leave_one: Never take all groups. Needs two groups or more.
    """
    import numpy as np

    generator = np.random.default_rng(seed)
    sizes = Counter(case.group for case in cases)
    mixture: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        mixture[case.group].add(strata[case.case_id])
    members: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for group in sorted(sizes):
        members[tuple(sorted(mixture[group]))].append(group)
    chosen: set[str] = set()
    owed = 0.0
    order: list[str] = []
    for stratum in sorted(members):
        groups = [members[stratum][index] for index in generator.permutation(len(members[stratum]))]
        order.extend(groups)
        owed += share * sum(sizes[group] for group in groups)
        for group in groups:
            if sizes[group] / 2 <= owed:
                chosen.add(group)
                owed -= sizes[group]
    if not chosen:
        chosen = {min(order, key=lambda group: sizes[group])}
    if leave_one and len(chosen) == len(sizes):
        chosen.discard(min(order, key=lambda group: sizes[group]))
    return chosen


def draw_folds(
    cases: Sequence[Case], strata: Mapping[str, str], folds: int, seed: int, notes: list[str]
) -> list[set[str]]:
    """Groups of each fold, for cases in a fixed order and of at least `folds` groups."""
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.array([case.group for case in cases])
    _, codes = np.unique([strata[case.case_id] for case in cases], return_inverse=True)
    rare = bool(np.bincount(codes).min() < folds)
    if rare:
        notes.append(f"some values of the label are rarer than {folds} cases, so not every fold has them")
    if np.bincount(codes).max() < folds:
        notes.append("no value of the label is common enough to be kept in proportion; folds are drawn by group alone")
        codes = np.zeros(len(cases), dtype=int)
    splitter = StratifiedGroupKFold(n_splits=folds, shuffle=True, random_state=seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The least populated class", category=UserWarning)
        drawn = [set(groups[test].tolist()) for _, test in splitter.split(codes, codes, groups)]
    if any(not fold for fold in drawn):
        raise DataError(
            f"{len(set(groups.tolist()))} groups leave a fold of {folds} empty: one group holds too many of the cases",
            hint="Ask for fewer folds (split.folds).",
        )
    return drawn
