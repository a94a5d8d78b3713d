"""How cases are divided into training, validation and test parts.

A group (a patient, an identity, a source video) is never divided. What is drawn depends on the cases' identifiers,
groups and labels and on the seed, never on their order or on the file system.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from pipelines.caseids import some
from pipelines.cases import PARTS, Case, CaseTable
from pipelines.config.section import Section
from pipelines.draws import draw_folds, draw_share, groups_by_label, label_values, strata_of
from pipelines.errors import DataError, SplitLeakError

__all__ = ["SplitSettings", "apply_splits", "check_leaks", "draw_splits"]

_NOT_COMPARED = frozenset({"label", "mask", "container"})
"""Files that cases of several parts may share: annotations (two may be empty), and files that hold many cases."""
_TEST_STREAM, _VALIDATION_STREAM = 1, 2
_log = logging.getLogger(__name__)


class SplitSettings(Section):
    """How cases are divided: always by group, so that nothing of one patient stands in two parts."""

    folds: Annotated[int, Field(ge=2, le=1000)] | Literal["groups"] | None = None
    """Number of folds; each group is in the test part of exactly one. `groups`: as many as there are groups, so that
    one is left out at a time. Empty: one division by fractions."""
    by: str | None = None
    """Label whose values are the folds: a column of given folds, or the site, to leave one site out at a time."""
    fold: int = Field(default=0, ge=0)
    """Which fold is the test part, from 0."""
    test: float = Field(default=0.2, ge=0, lt=1)
    """Share of the cases in the test part (without folds). 0 leaves the test part empty."""
    validation: float = Field(default=0.1, ge=0, lt=1)
    """Share of the cases outside the test part that choose the best checkpoint. 0 leaves the validation part empty."""
    stratify: str | None = None
    """Label whose values are kept in proportion in every part, where the groups allow it."""
    use_given: bool = True
    """Keep the parts that the data name themselves (a `split` column, a given test list); draw only what is missing."""
    identical_files: Literal["error", "warn", "ignore"] = "error"
    """What to do when cases of different parts hold the same file, byte for byte."""

    @model_validator(mode="after")
    def _fold_exists(self) -> SplitSettings:
        if self.by is not None and self.folds is not None:
            raise ValueError(f"the label {self.by!r} says what the folds are: leave out 'folds', or 'by'")
        if isinstance(self.folds, int) and self.fold >= self.folds:
            raise ValueError(f"fold {self.fold} does not exist: with {self.folds} folds use 0 to {self.folds - 1}")
        if self.folds is None and self.by is None and self.fold:
            raise ValueError(f"fold {self.fold} needs 'folds': the number of folds, for example 5")
        return self

    def count_folds(self, cases: Sequence[Case]) -> int:
        """How many folds these cases make.

        Raises:
            DataError: The settings ask for none, or the label that says what the folds are is not there.
        """
        if self.by is not None:
            return len(label_values(cases, self.by))
        if self.folds is None:
            raise DataError("split.folds is not set, so there are no folds", hint="Set it, for example split.folds=5.")
        return len({case.group for case in cases}) if self.folds == "groups" else self.folds

    def fold_of(self, cases: Sequence[Case]) -> int:
        """The fold that is asked for. Raises `DataError` when these cases do not make so many."""
        count = self.count_folds(cases)
        if self.fold >= count:
            raise DataError(f"fold {self.fold} does not exist: the cases make {count} folds", hint="They count from 0.")
        return self.fold


def draw_splits(table: CaseTable, settings: SplitSettings, seed: int) -> tuple[CaseTable, dict[str, Any]]:
    """Gives every case its part.

    Parts that the cases name themselves are kept where `settings.use_given` says so: a test part that the data name is
    complete, and so is a validation part; nothing more is drawn into them. The rest is drawn, by group.

    Args:
        table: The cases.
        settings: How to divide.
        seed: Seed of the draw.

    Returns:
        The table with every case's `split` filled, and a record of plain values that `apply_splits` takes.

    Raises:
        DataError: There are too few groups, or what the data name contradicts the settings.
        SplitLeakError: A group, or the same file, stands in two parts.
    """
    if not table.cases:
        raise DataError("there is no case to divide", hint="Check what the `data` section names.")
    notes: list[str] = []
    cases = sorted(table.cases, key=lambda case: case.case_id)
    strata = strata_of(cases, settings.stratify, notes)
    parts = _given_parts(cases) if settings.use_given else {}
    test = _test_groups(cases, parts, settings, seed, strata, notes)
    validation = _validation_groups(cases, parts, test, settings, seed, strata, notes)
    drawn = {case.group: "test" if case.group in test else "train" for case in cases if case.group not in parts}
    parts |= drawn | dict.fromkeys(validation, "validation")
    if "train" not in parts.values():
        raise DataError(
            f"no case is left to train on: {_counts(cases, parts)}", hint="Make the other parts smaller (`split`)."
        )
    divided = replace(table, cases=tuple(replace(case, split=parts[case.group]) for case in table.cases))
    notes.extend(check_leaks(divided, identical_files=settings.identical_files))
    return divided, _record(divided, settings, seed, notes)


def apply_splits(table: CaseTable, record: Mapping[str, Any]) -> CaseTable:
    """Divides a table as a record says.

    Raises:
        DataError: The record names other cases than the table holds, or names a case twice.
        SplitLeakError: The record divides a group.
    """
    named = record.get("parts")
    if not isinstance(named, Mapping) or not set(named) <= set(PARTS):
        raise DataError(f"not a record of splits: 'parts' must name case ids under {', '.join(PARTS)}")
    listed = Counter(case_id for ids in named.values() for case_id in ids)
    known = {case.case_id for case in table}
    complaints = [
        (sorted(case_id for case_id, count in listed.items() if count > 1), "listed more than once"),
        (sorted(set(listed) - known), "in the record but not in the data"),
        (sorted(known - set(listed)), "in the data but not in the record"),
    ]
    wrong = [f"{_count(len(ids), 'case')} {what}: {some(ids)}" for ids, what in complaints if ids]
    if wrong:
        raise DataError(
            "the saved splits do not fit the data: " + "; ".join(wrong),
            hint="Start a new run to divide the cases afresh, or bring back the data of that run.",
        )
    part_of = {case_id: part for part, ids in named.items() for case_id in ids}
    divided = replace(table, cases=tuple(replace(case, split=part_of[case.case_id]) for case in table.cases))
    check_leaks(divided, identical_files="ignore")
    return divided


def check_leaks(table: CaseTable, *, identical_files: Literal["error", "warn", "ignore"] = "error") -> list[str]:
    """Makes sure that no group, and no input file, stands in two parts. Cases without a part are passed over.

    Files are compared by content; labels and masks are not, since two cases may well share an empty one, nor is a
    `container`, a file that holds many cases.

    Returns:
        What was found under `identical_files="warn"`, one line for each set of equal files.

    Raises:
        SplitLeakError: Names the groups or the cases.
    """
    cases = [case for case in table if case.split]
    where: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        where[case.group].add(case.split)
    _refuse_divided(where)
    if identical_files == "ignore":
        return []
    return _check_identical(cases, refuse=identical_files == "error")


def _check_identical(cases: Sequence[Case], *, refuse: bool) -> list[str]:
    from pipelines.digests import same_content

    inputs = {
        (case.case_id, role): path for case in cases for role, path in case.paths.items() if role not in _NOT_COMPARED
    }
    part_of = {case.case_id: case.split for case in cases}
    lines = []
    for same in same_content(inputs):
        ids = sorted({case_id for case_id, _ in same})
        if len({part_of[case_id] for case_id in ids}) > 1:
            lines.append(" = ".join(f"{case_id} ({part_of[case_id]})" for case_id in ids))
    if lines and refuse:
        raise SplitLeakError(
            f"{_count(len(lines), 'input file')} in more than one part, byte for byte: "
            + some(sorted(lines), separator="; "),
            hint="Remove the copies or give them one group; split.identical_files=warn goes on all the same.",
        )
    notices = [f"the same input file in more than one part: {line}" for line in sorted(lines)]
    for notice in notices:
        _log.warning(notice)
    return notices


def _refuse_divided(where: Mapping[str, set[str]]) -> None:
    """Raises `SplitLeakError` where a group stands in more than one part."""
    divided = {group: sorted(parts, key=PARTS.index) for group, parts in sorted(where.items()) if len(parts) > 1}
    if divided:
        lines = [f"group {group!r} is in {' and '.join(parts)}" for group, parts in divided.items()]
        raise SplitLeakError(
            f"{_count(len(divided), 'group')} in more than one part: {some(lines, separator='; ')}",
            hint="Give all cases of a group the same part, or set split.use_given=false to have them drawn.",
        )


def _given_parts(cases: Iterable[Case]) -> dict[str, str]:
    """Group → the part that its cases name. Cases that name none follow their group."""
    where: dict[str, set[str]] = defaultdict(set)
    for case in cases:
        if case.split and case.split not in PARTS:
            raise DataError(f"{case.case_id}: unknown part {case.split!r}; use one of: {', '.join(PARTS)}")
        if case.split:
            where[case.group].add(case.split)
    _refuse_divided(where)
    return {group: parts.pop() for group, parts in where.items()}


def _test_groups(
    cases: list[Case],
    given: Mapping[str, str],
    settings: SplitSettings,
    seed: int,
    strata: Mapping[str, str],
    notes: list[str],
) -> set[str]:
    """Groups drawn into the test part; empty when the data name it or the settings want none."""
    if "test" in given.values():
        if settings.folds is not None or settings.by is not None:
            raise DataError(
                "the data name a test part of their own "
                f"({_count(list(given.values()).count('test'), 'group')}), so there is nothing to draw folds for",
                hint="Leave out split.folds to use that test part, or draw over all cases: split.use_given=false.",
            )
        notes.append("the test part is the one that the data name")
        return set()
    if settings.by is not None:
        return groups_by_label(cases, given, settings.by)[settings.fold_of(cases)]
    if settings.folds is None and settings.test == 0:
        notes.append("the settings ask for no test part")
        return set()
    free = [case for case in cases if case.group not in given]
    _need_groups(cases, free, given, settings)
    if settings.folds is not None:
        return draw_folds(free, strata, settings.count_folds(free), seed, notes)[settings.fold_of(free)]
    others = 1 + (settings.validation > 0 and "validation" not in given.values())
    leave = max(0, others - list(given.values()).count("train"))
    return draw_share(free, strata, settings.test, (seed, _TEST_STREAM), leave=leave)


def _validation_groups(
    cases: list[Case],
    given: Mapping[str, str],
    test: set[str],
    settings: SplitSettings,
    seed: int,
    strata: Mapping[str, str],
    notes: list[str],
) -> set[str]:
    """Groups drawn into the validation part, out of everything that is not in the test part."""
    if "validation" in given.values():
        notes.append("the validation part is the one that the data name")
        return set()
    if settings.validation == 0:
        notes.append("the settings ask for no validation part")
        return set()
    rest = [case for case in cases if case.group not in test and given.get(case.group) != "test"]
    groups = len({case.group for case in rest})
    if groups < 2:
        raise DataError(
            f"{_count(groups, 'group')} outside the test part: too few for a training and a validation part",
            hint="Add cases of other groups, or set split.validation=0 to train without a validation part.",
        )
    return draw_share(rest, strata, settings.validation, (seed, _VALIDATION_STREAM))


def _need_groups(cases: list[Case], free: list[Case], given: Mapping[str, str], settings: SplitSettings) -> None:
    groups = len({case.group for case in free})
    if not groups:
        raise DataError(
            f"the data name a part for every case but no test part: {_counts(cases, given)}",
            hint="Mark test cases in the data, go without (split.test=0), or draw all parts (split.use_given=false).",
        )
    needed = 2 + (settings.validation > 0 and "validation" not in given.values())
    if settings.folds is None:
        needed = max(1, needed - list(given.values()).count("train"))
    else:
        needed = max(needed, settings.folds if isinstance(settings.folds, int) else 2)
    if groups < needed:
        asked = f"{settings.folds} folds" if settings.folds is not None else "the parts asked for"
        raise DataError(
            f"too few groups for {asked}: {_count(groups, 'group')} ({_count(len(free), 'case')}), {needed} are needed",
            hint="Add cases of other groups, ask for fewer folds, or set split.validation=0 or split.test=0.",
        )


def _counts(cases: Iterable[Case], parts: Mapping[str, str]) -> str:
    counted = Counter(parts.get(case.group, "undecided") for case in cases)
    return ", ".join(f"{counted[part]} {part}" for part in (*PARTS, "undecided") if counted[part] or part in PARTS)


def _record(table: CaseTable, settings: SplitSettings, seed: int, notes: list[str]) -> dict[str, Any]:
    parts = {part: sorted(case.case_id for case in table.part(part)) for part in PARTS}
    groups = {part: len({case.group for case in table.part(part)}) for part in PARTS}
    record: dict[str, Any] = {
        "parts": parts,
        "cases": {part: len(ids) for part, ids in parts.items()},
        "groups": groups,
        "drawn": {"seed": seed, **settings.model_dump(mode="json")},
        "notes": notes,
    }
    if settings.stratify is not None:
        record["strata"] = {
            part: dict(
                sorted(Counter(str(case.labels.get(settings.stratify, "")) for case in table.part(part)).items())
            )
            for part in PARTS
        }
    return record


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
