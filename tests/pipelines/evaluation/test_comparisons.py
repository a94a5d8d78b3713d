"""Comparisons are paired, walk the same cases, and say when they do not."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.errors import DataError
from pipelines.evaluation import MEAN, compare_runs, compare_tables
from pipelines.runs import RunFolder


def table(values: dict[str, float], class_name: str = "x", groups: dict[str, str] | None = None) -> pd.DataFrame:
    rows = [(case, (groups or {}).get(case, case), class_name, "dice", value, "") for case, value in values.items()]
    return pd.DataFrame(rows, columns=["case_id", "group", "class", "metric", "value", "note"])


def first_row(compared: pd.DataFrame) -> dict[str, float]:
    return dict(compared[compared["class"] == "x"].iloc[0])


def test_a_constant_gain_is_certain_however_much_cases_differ() -> None:
    before = {f"c{number}": number / 20 for number in range(10)}
    after = {case: value + 0.1 for case, value in before.items()}
    row = first_row(compare_tables(table(before), table(after)))
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((0.1, 0.1, 0.1))
    assert row["p"] == pytest.approx(2 / 2**10)
    assert (row["cases"], row["groups"], row["left_out"]) == (10, 10, 0)


def test_a_table_does_not_differ_from_itself() -> None:
    rows = table({f"c{number}": number / 7 for number in range(20)})
    row = first_row(compare_tables(rows, rows))
    assert (row["difference"], row["p"]) == (0, 1)


def test_chance_differences_are_rarely_called_certain() -> None:
    generator = np.random.default_rng(0)
    small = 0
    for seed in range(100):
        one, two = ({f"c{n}": float(value) for n, value in enumerate(generator.normal(size=20))} for _ in range(2))
        small += (
            first_row(compare_tables(table(one), table(two), permutations=400, resamples=1000, seed=seed))["p"] < 0.05
        )
    assert small <= 12


def test_groups_are_flipped_whole() -> None:
    before = {f"c{number}": 0.0 for number in range(12)}
    after = dict.fromkeys(before, 1.0)
    groups = {case: "abc"[index % 3] for index, case in enumerate(before)}
    row = first_row(compare_tables(table(before, groups=groups), table(after, groups=groups)))
    assert row["p"] == pytest.approx(2 / 2**3)


def test_pairs_with_an_undefined_value_are_counted_and_left_out() -> None:
    before, after = {"a": 0.5, "b": math.nan, "c": 0.7}, {"a": 0.6, "b": 0.0, "c": 0.9}
    row = first_row(compare_tables(table(before), table(after)))
    assert (row["cases"], row["unpaired"]) == (2, 1)
    assert (row["reference"], row["other"], row["difference"]) == pytest.approx((0.6, 0.75, 0.15))


def test_the_mean_over_classes_weighs_classes_alike() -> None:
    before = pd.concat([table({"a": 0.0, "b": 0.0}), table({"a": 0.0, "b": math.nan}, "y")])
    after = pd.concat([table({"a": 0.2, "b": 0.4}), table({"a": 1.0, "b": math.nan}, "y")])
    compared = compare_tables(before, after)
    assert compared[compared["class"] == MEAN]["difference"].iloc[0] == pytest.approx((0.3 + 1.0) / 2)


def test_other_cases_are_refused_unless_asked_for() -> None:
    one, two = table({"a": 0.1, "b": 0.2, "c": 0.3}), table({"b": 0.3, "c": 0.4, "d": 0.5})
    with pytest.raises(DataError, match=r"2 in common, 1 only in old \(a\), 1 only in new \(d\)"):
        compare_tables(one, two, names=("old", "new"))
    row = first_row(compare_tables(one, two, common_only=True))
    assert (row["cases"], row["left_out"]) == (2, 2)
    with pytest.raises(DataError, match="no case in common"):
        compare_tables(one, table({"z": 1.0}), common_only=True)


def test_cases_that_changed_their_group_are_refused() -> None:
    rows = table({"a": 0.1, "b": 0.2})
    with pytest.raises(DataError, match="different groups"):
        compare_tables(rows, rows.assign(group="g"))


def judged_run(folder: Path, values: dict[str, float], part: str = "test") -> RunFolder:
    run = RunFolder(folder)
    run.evaluation.mkdir(parents=True)
    table(values).to_csv(run.evaluation / f"{part}.cases.csv", index=False)
    return run


def test_runs_are_compared_with_the_first(tmp_path: Path) -> None:
    runs = [
        judged_run(tmp_path / name, {"a": gain, "b": gain + 0.2})
        for name, gain in (("r0", 0.1), ("r1", 0.2), ("r2", 0.0))
    ]
    compared = compare_runs(runs)
    chosen = compared[compared["class"] == "x"]
    assert chosen["run"].tolist() == ["r1", "r2"]
    assert set(chosen["against"]) == {"r0"}
    assert chosen["difference"].tolist() == pytest.approx([0.1, -0.1])


def test_runs_judged_on_different_parts_or_not_at_all_are_refused(tmp_path: Path) -> None:
    test = judged_run(tmp_path / "a", {"a": 0.1})
    with pytest.raises(DataError, match="different parts"):
        compare_runs([test, judged_run(tmp_path / "b", {"a": 0.1}, "validation")])
    with pytest.raises(DataError, match="not judged yet: c"):
        compare_runs([test, RunFolder(tmp_path / "c")])
    with pytest.raises(DataError, match="two runs"):
        compare_runs([test])
