"""Summaries walk the reference cases; tables survive being written and read."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipelines.cases import Case
from pipelines.evaluation import MEAN, Metric, read_rows, summarise, worst_cases

METRICS = {"dice": Metric("higher", 0.0), "hd95": Metric("lower"), "volume": Metric("neither")}


def cases(*case_ids: str, groups: str = "") -> list[Case]:
    return [Case(case_id, group, {}) for case_id, group in zip(case_ids, groups or case_ids, strict=True)]


def table(rows: Iterable[tuple[object, ...]]) -> pd.DataFrame:
    padded = [(*row, "")[:5] for row in rows]
    return pd.DataFrame(padded, columns=["case_id", "class", "metric", "value", "note"]).assign(group="")


def line(summary: pd.DataFrame, class_name: str, metric: str = "dice") -> dict[str, float]:
    chosen = summary[(summary["class"] == class_name) & (summary["metric"] == metric)]
    assert len(chosen) == 1
    return dict(chosen.iloc[0])


def test_means_by_class_and_over_classes() -> None:
    rows = table([("a", "x", "dice", 0.5), ("b", "x", "dice", 1.0), ("a", "y", "dice", 0.2), ("b", "y", "dice", 0.4)])
    summary = summarise(rows, cases("a", "b"))
    assert [line(summary, name)["mean"] for name in ("x", "y", MEAN)] == pytest.approx([0.75, 0.3, 0.525])
    assert line(summary, "x")["low"] <= 0.75 <= line(summary, "x")["high"]
    assert line(summary, MEAN)["cases"] == 2


def test_mean_over_classes_weighs_classes_alike_however_often_they_occur() -> None:
    often = [(str(number), "often", "dice", 1.0) for number in range(9)]
    rows = table(
        [*often, *[(str(n), "rare", "dice", math.nan, "both empty") for n in range(8)], ("8", "rare", "dice", 0.0)]
    )
    summary = summarise(rows, cases(*"012345678"))
    assert line(summary, MEAN)["mean"] == 0.5
    assert (line(summary, "rare")["undefined"], line(summary, "often")["undefined"]) == (8, 0)


def test_a_case_without_rows_is_a_failure_with_the_worst_value() -> None:
    rows = table([("a", "x", "dice", 0.8), ("b", "x", "dice", 0.6), ("a", "x", "hd95", 3.0), ("b", "x", "hd95", 9.0)])
    summary = summarise(rows, cases("a", "b", "c"), metrics=METRICS)
    assert line(summary, "x")["mean"] == pytest.approx(1.4 / 3)
    assert line(summary, "x", "hd95")["mean"] == pytest.approx(21 / 3)
    assert (line(summary, "x")["cases"], line(summary, "x")["failed"]) == (3, 1)


def test_a_missing_row_of_an_unknown_metric_is_refused() -> None:
    with pytest.raises(ValueError, match="worst value"):
        summarise(table([("a", "x", "dice", 0.8)]), cases("a", "b"))


def test_notes_are_counted_by_case() -> None:
    rows = table(
        [
            ("a", "x", "dice", 0.0, "missed"),
            ("a", "y", "dice", 0.0, "missed"),
            ("b", "x", "dice", 0.0, "invented"),
            ("b", "y", "dice", math.nan, "both empty"),
            ("c", "x", "dice", 0.0, "failed: out of memory"),
            ("c", "y", "dice", math.nan, "failed: out of memory"),
        ]
    )
    over = line(summarise(rows, cases("a", "b", "c")), MEAN)
    assert [over[name] for name in ("missed", "invented", "undefined", "failed")] == [1, 1, 1, 1]


def test_no_interval_from_one_group_and_none_for_what_is_never_defined() -> None:
    rows = table(
        [("a", "x", "dice", 0.5), ("b", "x", "dice", 0.7), ("a", "y", "dice", math.nan), ("b", "y", "dice", math.nan)]
    )
    summary = summarise(rows, cases("a", "b", groups="gg"))
    assert line(summary, "x")["mean"] == pytest.approx(0.6)
    assert math.isnan(line(summary, "x")["low"])
    assert math.isnan(line(summary, "y")["mean"])
    assert line(summary, MEAN)["mean"] == pytest.approx(0.6)
    assert line(summary, "x")["groups"] == 1


def test_cases_of_one_group_widen_the_interval() -> None:
    generator = np.random.default_rng(0)
    ids = [f"{patient}-{scan}" for patient in range(10) for scan in range(10)]
    rows = table((case_id, "x", "dice", generator.normal(int(case_id.split("-")[0]), 0.1)) for case_id in ids)
    single = line(summarise(rows, [Case(name, name, {}) for name in ids]), "x")
    grouped = line(summarise(rows, [Case(name, name.split("-")[0], {}) for name in ids]), "x")
    assert grouped["high"] - grouped["low"] > 2 * (single["high"] - single["low"])


def test_the_order_of_rows_and_cases_makes_no_difference() -> None:
    generator = np.random.default_rng(0)
    ids = [f"case{number}" for number in range(30)]
    rows = table((case_id, name, "dice", generator.random()) for case_id in ids for name in "xy")
    listed = [Case(case_id, case_id[:5], {}) for case_id in ids]
    first = summarise(rows, listed)
    second = summarise(rows.sample(frac=1, random_state=1), listed[::-1])
    pd.testing.assert_frame_equal(
        first.sort_values(["class", "metric"], ignore_index=True),
        second.sort_values(["class", "metric"], ignore_index=True),
    )


def test_descriptive_numbers_are_not_averaged_over_classes() -> None:
    rows = table([("a", name, "volume", 3.0) for name in "xy"])
    assert set(summarise(rows, cases("a"), metrics=METRICS)["class"]) == {"x", "y"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        pytest.param([("z", "x", "dice", 0.1)], "not among the reference", id="a stranger"),
        pytest.param([("a", "x", "dice", 0.1), ("a", "x", "dice", 0.2)], "repeated", id="twice"),
        pytest.param([("a", "x", "hd95", math.inf)], "infinite", id="infinite"),
        pytest.param([("a", MEAN, "dice", 0.1)], "cannot be called", id="a class called mean"),
        pytest.param([], "none of the 1", id="nothing judged"),
    ],
)
def test_refuses_rows_that_do_not_fit(rows: list[tuple[object, ...]], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        summarise(table(rows), cases("a"))


def test_worst_cases_follow_the_direction_of_the_metric() -> None:
    rows = table(
        [
            (case_id, "x", metric, value)
            for case_id, value in zip("abc", (2.0, 9.0, 5.0), strict=True)
            for metric in ("dice", "hd95")
        ]
        + [("d", "x", "dice", math.nan)]
    )
    assert worst_cases(rows, "dice", count=2, metrics=METRICS) == ["a", "c"]
    assert worst_cases(rows, "hd95", count=1, metrics=METRICS) == ["b"]
    assert worst_cases(rows, "hd95", count=1, best=True, metrics=METRICS) == ["a"]
    with pytest.raises(ValueError, match="dice, hd95"):
        worst_cases(rows, "iou", count=1)


def test_names_that_look_like_numbers_or_nothing_survive_a_file(tmp_path: Path) -> None:
    rows = table([("007", "NA", "dice", 0.1, "missed"), ("1e5", "null", "dice", math.nan, "both empty")])
    path = tmp_path / "test.cases.csv"
    rows[["case_id", "group", "class", "metric", "value", "note"]].to_csv(path, index=False)
    again = read_rows(path)
    assert again["case_id"].tolist() == ["007", "1e5"]
    assert again["class"].tolist() == ["NA", "null"]
    assert math.isnan(again["value"][1])
    assert again["value"][0] == 0.1


def test_two_thousand_cases_are_summed_up_in_two_seconds() -> None:
    values = np.random.default_rng(0).random((2000, 2, 4))
    ids = [f"{number:04}" for number in range(2000)]
    rows = table((ids[i], f"c{j}", f"m{k}", values[i, j, k]) for i, j, k in np.ndindex(*values.shape))
    listed = [Case(case_id, case_id, {}) for case_id in ids]
    started = time.process_time()
    summarise(rows, listed)
    assert time.process_time() - started < 2
