"""Group bootstrap and sign-flip test, against SciPy and against all patterns."""

from __future__ import annotations

import time
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from pipelines.evaluation.bootstrap import GroupSums, percentile_interval, resampled_means, sign_flip_p


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 60), st.integers(0, 2**31), st.sampled_from([0.9, 0.95, 0.99]))
def test_same_interval_as_scipy_where_every_case_is_a_group(size: int, seed: int, confidence: float) -> None:
    values = np.random.default_rng(seed).gamma(2.0, size=size)
    sums = GroupSums(values[:, None], np.arange(size))
    low, high = percentile_interval(resampled_means(sums, resamples=1000, seed=seed), confidence)
    oracle = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=1000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    assert (low[0], high[0]) == pytest.approx(tuple(oracle.confidence_interval), rel=1e-12)


def test_groups_are_drawn_whole() -> None:
    """Two groups of very different means: a resample is one, the other, or all cases; single cases never mix."""
    values = np.array([0.0] * 5 + [1.0] * 10)[:, None]
    means = resampled_means(GroupSums(values, np.array([0] * 5 + [1] * 10)), resamples=2000, seed=0)
    assert set(np.round(means[:, 0], 12)) == {0.0, np.round(10 / 15, 12), 1.0}


def test_undefined_values_are_in_no_mean() -> None:
    values = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, 7.0]])
    sums = GroupSums(values, np.array([0, 0, 1]))
    assert sums.means.tolist() == [2.0, 7.0]
    means = resampled_means(sums, resamples=1000, seed=1)
    assert set(means[~np.isnan(means[:, 1]), 1]) == {7.0}
    assert np.isnan(means[:, 1]).any()


def test_draws_do_not_depend_on_how_many_are_held_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = GroupSums(np.random.default_rng(0).random((37, 3)), np.arange(37))
    whole = resampled_means(sums, resamples=500, seed=3)
    monkeypatch.setattr("pipelines.evaluation.bootstrap._CELLS", 37 * 7)
    np.testing.assert_allclose(resampled_means(sums, resamples=500, seed=3), whole, rtol=1e-12)


def test_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        group_means = generator.normal(size=30)
        groups = np.repeat(np.arange(30), 4)
        values = group_means[groups] + generator.normal(scale=0.2, size=120)
        low, high = percentile_interval(
            resampled_means(GroupSums(values[:, None], groups), resamples=1000, seed=trial), 0.9
        )
        covered += bool(low[0] <= 0 <= high[0])
    assert 0.82 <= covered / 200 <= 0.96


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=8))
def test_p_walks_through_every_sign_pattern_of_few_groups(differences: list[float]) -> None:
    contributions = np.array(differences)[:, None]
    bound = abs(sum(differences)) - 1e-9 * sum(map(abs, differences))
    reached = [abs(np.dot(signs, differences)) >= bound for signs in product((1, -1), repeat=len(differences))]
    assert sign_flip_p(contributions, permutations=10, seed=0)[0] == pytest.approx(np.mean(reached))


def test_p_agrees_with_scipy_for_many_groups() -> None:
    differences = np.random.default_rng(4).normal(0.2, 1, size=60)
    oracle = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    )
    found = sign_flip_p(differences[:, None], permutations=20_000, seed=2)[0]
    assert found == pytest.approx(oracle.pvalue, abs=0.02)


def test_thousands_of_cases_take_less_than_two_seconds() -> None:
    values = np.random.default_rng(0).random((2000, 12))
    started = time.process_time()
    resampled_means(GroupSums(values, np.arange(2000)), resamples=2000, seed=0)
    assert time.process_time() - started < 2
