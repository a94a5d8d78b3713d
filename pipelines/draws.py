"""Seeded draws of whole groups: a share of the cases or k folds, in proportion to a label where the groups allow it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from pipelines.caseids import some
from pipelines.cases import Case
from pipelines.errors import DataError, SplitLeakError

__all__ = ["draw_folds", "draw_share", "groups_by_label", "label_values", "strata_of"]

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
    cases: Sequence[Case], strata: Mapping[str, str], share: float, seed: tuple[int, ...], *, leave: int = 1
) -> set[str]:
    """Groups that hold about `share` of the cases, of each stratum alike; at least one group.

    Args:
        cases: Cases in a fixed order.
        strata: Case id → stratum. A group whose cases differ makes a stratum of its mixture.
        share: Wanted share of the cases, above 0 and below 1.
        seed: Seed of the draw.
        leave: How many groups are left at least; there must be more than that.
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
    for group in reversed(order):
        if len(sizes) - len(chosen) >= leave:
            break
        chosen.discard(group)
    return chosen


def draw_folds(
    cases: Sequence[Case], strata: Mapping[str, str], folds: int, seed: int, notes: list[str]
) -> list[set[str]]:
    """Groups of each fold, none of them empty, for cases of at least `folds` groups.

    The largest groups are dealt first, each to the fold that has least of what the group holds, then to the smallest
    fold. An empty fold always comes first, so none stays empty, which scikit-learn's `StratifiedGroupKFold` does not
    promise.
    """
    import numpy as np

    content: dict[str, Counter[str]] = defaultdict(Counter)
    for case in cases:
        content[case.group][strata[case.case_id]] += 1
    totals = sum(content.values(), Counter[str]())
    rare = sorted(value for value, count in totals.items() if count < folds)
    if rare and len(totals) > 1:
        notes.append(f"rarer than {folds} cases, so not in every fold: {some(rare)}")
    names = sorted(content)
    shuffled = [names[index] for index in np.random.default_rng(seed).permutation(len(names))]
    drawn: list[set[str]] = [set() for _ in range(folds)]
    held = [Counter[str]() for _ in range(folds)]
    for group in sorted(shuffled, key=lambda name: -content[name].total()):

        def burden(fold: int, own: Counter[str] = content[group]) -> tuple[float, int]:
            return sum(count * held[fold][value] / totals[value] for value, count in own.items()), held[fold].total()

        chosen = min(range(folds), key=burden)
        drawn[chosen].add(group)
        held[chosen].update(content[group])
    return drawn


def label_values(cases: Sequence[Case], label: str) -> list[str]:
    """The values of a label, numbers in their own order."""
    without = [case.case_id for case in cases if str(case.labels.get(label, "")) == ""]
    if without:
        known = sorted({name for case in cases for name in case.labels})
        raise DataError(
            f"{len(without)} cases have no {label!r} to make folds by: {some(without)}",
            hint=f"split.by names a label of the cases; there are: {', '.join(known) or 'none'}.",
        )
    values = {str(case.labels[label]) for case in cases}
    try:
        return sorted(values, key=float)
    except ValueError:
        return sorted(values)


def groups_by_label(cases: Sequence[Case], given: Mapping[str, str], label: str) -> list[set[str]]:
    """The groups of each fold that a label names. Raises `SplitLeakError` where a group has two values."""
    values = label_values(cases, label)
    where: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.group not in given:
            where[case.group].add(str(case.labels[label]))
    torn = {group: sorted(found) for group, found in where.items() if len(found) > 1}
    if torn:
        lines = [f"group {group!r} has {' and '.join(found)}" for group, found in sorted(torn.items())]
        raise SplitLeakError(
            f"{len(torn)} groups with more than one {label!r}: {some(lines, separator='; ')}",
            hint="Folds must keep groups whole: make the groups larger (by the label itself), or mend the label.",
        )
    return [{group for group, found in where.items() if value in found} for value in values]
