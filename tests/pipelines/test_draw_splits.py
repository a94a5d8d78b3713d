"""Splits: by group, seeded, independent of order, and leak-free."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipelines.cases import PARTS, Case, CaseTable
from pipelines.errors import DataError, SplitLeakError
from pipelines.splits import SplitSettings, apply_splits, check_leaks, draw_splits

ROOT = Path("/data")


def table(cases: Sequence[Case]) -> CaseTable:
    return CaseTable(tuple(cases), ROOT, "test")


def numbered(count: int, *, per_group: int = 1, **labels: Sequence[Any]) -> CaseTable:
    return table(
        [
            Case(f"c{n:03}", f"g{n // per_group:03}", {}, {name: values[n] for name, values in labels.items()})
            for n in range(count)
        ]
    )


def parts(divided: CaseTable) -> dict[str, str]:
    return {case.case_id: case.split for case in divided}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=5, max_size=40),
    st.integers(0, 1000),
    st.sampled_from(
        [{}, {"folds": 5, "fold": 4}, {"test": 0.4, "validation": 0.3}, {"test": 0.0}, {"validation": 0.0}]
    ),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_groups_stay_whole_and_order_makes_no_difference(
    sizes: list[int], seed: int, options: dict[str, Any], stratified: bool, shuffle: random.Random
) -> None:
    cases = [
        Case(f"c{group}-{n}", f"g{group}", {}, {"kind": "ab"[(group * n) % 2]})
        for group, size in enumerate(sizes)
        for n in range(size)
    ]
    wanted = SplitSettings(**options, stratify="kind" if stratified else None)
    divided, record = draw_splits(table(cases), wanted, seed)
    assert all(len({case.split for case in divided if case.group == group}) == 1 for group in {c.group for c in cases})
    empty = {part for part in PARTS if not divided.part(part)}
    assert empty == {part for part, share in (("test", wanted.test), ("validation", wanted.validation)) if not share}
    shuffle.shuffle(cases)
    again, record_again = draw_splits(table(cases), wanted, seed)
    assert parts(again) == parts(divided)
    assert json.loads(json.dumps(record)) == record == record_again
    assert parts(apply_splits(table(cases), json.loads(json.dumps(record)))) == parts(divided)


def test_each_group_is_in_the_test_part_of_exactly_one_fold() -> None:
    cases = numbered(60, per_group=3)
    counted: Counter[str] = Counter()
    for fold in range(4):
        divided, _ = draw_splits(cases, SplitSettings(folds=4, fold=fold), 7)
        counted.update({case.group for case in divided.part("test")})
        assert len(divided.part("test")) == 15
    assert counted == dict.fromkeys({case.group for case in cases}, 1)


@pytest.mark.parametrize("options", [{"test": 0.25}, {"folds": 4}], ids=["share", "folds"])
def test_labels_are_kept_in_proportion(options: dict[str, Any]) -> None:
    cases = numbered(80, site=["big"] * 60 + ["small"] * 20)
    for seed in range(5):
        divided, record = draw_splits(cases, SplitSettings(**options, validation=0.2, stratify="site"), seed)
        assert record["strata"]["test"] == {"big": 15, "small": 5}
        assert record["strata"]["validation"] == {"big": 9, "small": 3}
        assert len(divided.part("train")) == 48


@pytest.mark.parametrize("share", [0.1, 0.15, 0.3, 0.5])
def test_shares_are_met(share: float) -> None:
    _, record = draw_splits(numbered(200), SplitSettings(test=share, validation=0.0), 3)
    assert record["cases"]["test"] == round(200 * share)


def test_another_seed_draws_other_cases_and_the_validation_share_does_not_move_the_test_part() -> None:
    cases = numbered(50)
    first, _ = draw_splits(cases, SplitSettings(), 0)
    second, _ = draw_splits(cases, SplitSettings(), 1)
    third, _ = draw_splits(cases, SplitSettings(validation=0.4), 0)
    assert first.part("test") != second.part("test")
    assert first.part("test") == third.part("test")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.sampled_from("aabc")), min_size=2, max_size=30), st.data())
def test_no_fold_is_empty_however_groups_differ(groups: list[tuple[int, str]], data: st.DataObject) -> None:
    folds = data.draw(st.integers(2, len(groups)))
    cases = [
        Case(f"{group}-{n}", str(group), {}, {"kind": kind})
        for group, (size, kind) in enumerate(groups)
        for n in range(size)
    ]
    for fold in range(folds):
        wanted = SplitSettings(folds=folds, fold=fold, validation=0, stratify="kind")
        assert draw_splits(table(cases), wanted, 0)[0].part("test")


def test_values_too_rare_for_the_folds_are_noted_not_fatal() -> None:
    divided, record = draw_splits(
        numbered(10, kind=[f"k{n // 2}" for n in range(10)]), SplitSettings(folds=5, stratify="kind"), 0
    )
    assert len(divided.part("test")) == 2
    assert any("rarer than" in note for note in record["notes"])


def test_a_continuous_label_is_cut_at_its_quartiles() -> None:
    cases = numbered(80, age=[20.5 + n for n in range(80)])
    divided, record = draw_splits(cases, SplitSettings(test=0.25, stratify="age", validation=0), 0)
    ages = sorted(case.labels["age"] for case in divided.part("test"))
    assert sum(age < 60 for age in ages) == 10
    assert any("quartiles" in note for note in record["notes"])


def test_an_unknown_label_is_refused_with_those_there_are() -> None:
    with pytest.raises(DataError, match="'sex'; the cases have age, site"):
        draw_splits(numbered(10, site="ab" * 5, age=range(10)), SplitSettings(stratify="sex"), 0)


@pytest.mark.parametrize(
    ("count", "options", "message"),
    [
        pytest.param(0, {}, "no case to divide", id="no case"),
        pytest.param(1, {}, r"1 group \(1 case\), 3 are needed", id="one case"),
        pytest.param(2, {}, r"2 groups \(2 cases\), 3 are needed", id="two cases"),
        pytest.param(4, {"folds": 5}, "too few groups for 5 folds: 4 groups", id="fewer groups than folds"),
        pytest.param(2, {"folds": 2}, "3 are needed", id="nothing left to validate on"),
        pytest.param(1, {"test": 0}, "1 group outside the test part", id="one case without a test part"),
    ],
)
def test_too_few_groups_are_counted(count: int, options: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        draw_splits(numbered(count), SplitSettings(**options), 0)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("count", "options", "expected"),
    [
        pytest.param(3, {}, (1, 1, 1), id="three"),
        pytest.param(5, {}, (3, 1, 1), id="five"),
        pytest.param(2, {"validation": 0}, (1, 0, 1), id="two without validation"),
        pytest.param(1, {"validation": 0, "test": 0}, (1, 0, 0), id="one to train on"),
        pytest.param(3, {"folds": 3, "fold": 2}, (1, 1, 1), id="leave one out"),
    ],
)
def test_tiny_sets(count: int, options: dict[str, Any], expected: tuple[int, ...]) -> None:
    divided, _ = draw_splits(numbered(count), SplitSettings(**options), 0)
    assert tuple(len(divided.part(part)) for part in PARTS) == expected


def given_table(**named: str) -> CaseTable:
    return table([Case(case_id, case_id.rstrip("0123456789"), {}, split=split) for case_id, split in named.items()])


def test_a_given_test_part_is_complete_and_the_rest_is_drawn() -> None:
    cases = given_table(a="test", b="", c="", d="train", e="")
    divided, record = draw_splits(cases, SplitSettings(validation=0.25), 0)
    assert [case.case_id for case in divided.part("test")] == ["a"]
    assert record["cases"] == {"train": 3, "validation": 1, "test": 1}
    assert any("the data name" in note for note in record["notes"])


def test_given_training_cases_stay_and_a_test_part_is_drawn_from_the_rest() -> None:
    cases = given_table(a="train", b="train", c="")
    divided, _ = draw_splits(cases, SplitSettings(validation=0), 0)
    assert parts(divided) == {"a": "train", "b": "train", "c": "test"}


def test_a_case_without_a_part_follows_its_group() -> None:
    cases = given_table(a1="test", a2="", b="", c="", d="")
    assert parts(draw_splits(cases, SplitSettings(), 0)[0])["a2"] == "test"


def test_given_parts_are_drawn_anew_when_asked_for() -> None:
    cases = given_table(**dict.fromkeys("abcdefghij", "test"))
    with pytest.raises(DataError, match="0 groups outside the test part"):
        draw_splits(cases, SplitSettings(), 0)
    assert draw_splits(cases, SplitSettings(use_given=False), 0)[1]["cases"]["test"] == 2


@pytest.mark.parametrize(
    ("named", "options", "message"),
    [
        pytest.param(
            {"a": "train", "b": "validation"}, {}, "no test part: 1 train, 1 validation, 0 test", id="no test"
        ),
        pytest.param({"a": "test", "b": "", "c": ""}, {"folds": 2}, "a test part of their own", id="folds too"),
        pytest.param({"a": "dev", "b": "", "c": ""}, {}, "unknown part 'dev'", id="an unknown part"),
    ],
)
def test_what_the_data_name_may_contradict_the_settings(
    named: dict[str, str], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        draw_splits(given_table(**named), SplitSettings(**options), 0)


def test_an_empty_test_part_must_be_asked_for() -> None:
    cases = given_table(a="train", b="validation")
    divided, _ = draw_splits(cases, SplitSettings(test=0), 0)
    assert not divided.part("test")


def test_a_group_in_two_parts_is_named() -> None:
    cases = given_table(a1="train", a2="test", b="", c="")
    for leaky in (lambda: draw_splits(cases, SplitSettings(), 0), lambda: check_leaks(cases)):
        with pytest.raises(SplitLeakError, match="group 'a' is in train and test"):
            leaky()


def files(folder: Path, **contents: bytes) -> list[Case]:
    cases = []
    for name, content in contents.items():
        path = folder / f"{name}.bin"
        path.write_bytes(content)
        cases.append(Case(name, name, {"image": path}))
    return cases


def test_the_same_file_in_two_parts_is_a_leak(tmp_path: Path) -> None:
    cases = [
        replace(case, split=split)
        for case, split in zip(files(tmp_path, a=b"same", b=b"same", c=b"else"), ("train", "test", "test"), strict=True)
    ]
    with pytest.raises(SplitLeakError, match=r"a \(train\) = b \(test\)"):
        check_leaks(table(cases))
    assert check_leaks(table(cases), identical_files="warn") == [
        "the same input file in more than one part: a (train) = b (test)"
    ]
    assert check_leaks(table(cases), identical_files="ignore") == []
    assert check_leaks(table([replace(case, split="test") for case in cases])) == []


def test_equal_labels_and_masks_are_no_leak(tmp_path: Path) -> None:
    path = tmp_path / "empty.nii"
    path.write_bytes(b"nothing there")
    cases = [Case(part, part, {"label": path, "mask": path}, split=part) for part in PARTS]
    assert check_leaks(table(cases)) == []


RECORD = {"parts": {"train": ["a"], "validation": [], "test": ["b"]}}


@pytest.mark.parametrize(
    ("record", "message"),
    [
        pytest.param(
            {"parts": {"train": ["a"], "test": ["b", "c"]}}, "in the record but not in the data: c", id="gone"
        ),
        pytest.param({"parts": {"train": ["a"]}}, "in the data but not in the record: b", id="new"),
        pytest.param({"parts": {"train": ["a"], "test": ["a", "b"]}}, "more than once: a", id="twice"),
        pytest.param({"parts": {"dev": ["a", "b"]}}, "not a record", id="an unknown part"),
        pytest.param({}, "not a record", id="no record"),
    ],
)
def test_a_record_must_fit_the_data(record: dict[str, Any], message: str) -> None:
    assert parts(apply_splits(given_table(a="", b=""), RECORD)) == {"a": "train", "b": "test"}
    with pytest.raises(DataError, match=message):
        apply_splits(given_table(a="", b=""), record)


@pytest.mark.parametrize(
    "wrong",
    [{"folds": 5, "fold": 5}, {"fold": 1}, {"folds": 1}, {"test": 1.0}, {"validation": -0.1}, {"fractions": 3}],
    ids=str,
)
def test_settings_refuse_nonsense(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SplitSettings(**wrong)
