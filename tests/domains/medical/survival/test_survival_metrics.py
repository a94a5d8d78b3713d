"""Metrics against loops that spell out their definitions, and against scikit-survival where it is installed."""

import math

import numpy as np
import pytest

from domains.medical.survival.brier import brier_of_patients, integrated
from domains.medical.survival.discrimination import concordance, dynamic_auc
from domains.medical.survival.kaplan_meier import StepFunction, censoring_curve, kaplan_meier
from domains.medical.survival.times import Intervals
from pipelines.errors import DataError


def cohort(number: int, seed: int, *, distinct: int | None = None, tied: bool = False):
    generator = np.random.default_rng(seed)
    risk = generator.normal(size=number)
    if tied:
        risk = risk.round()
    hidden = generator.exponential(np.exp(-risk))
    censored = generator.exponential(1.5, number)
    time, event = np.minimum(hidden, censored) + 0.01, hidden <= censored
    if distinct:
        time = np.ceil(time * distinct)
    return risk, time, event


def slow_concordance(risk, time, event, weights=None, horizon=math.inf):
    """Pair by pair."""
    won = total = 0.0
    for i in range(len(risk)):
        for j in range(len(risk)):
            first = time[i] < time[j] or (time[i] == time[j] and not event[j])
            if i != j and event[i] and first and time[i] < horizon:
                weight = 1.0 if weights is None else weights[i]
                total += weight
                won += weight * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    return won / total


@pytest.mark.parametrize("distinct", [None, 3], ids=["distinct times", "equal times"])
@pytest.mark.parametrize("tied", [False, True], ids=["distinct risks", "equal risks"])
@pytest.mark.parametrize("seed", range(3))
def test_concordance_is_counted_pair_by_pair(distinct, tied, seed):
    risk, time, event = cohort(40, seed, distinct=distinct, tied=tied)
    assert concordance(risk, time, event) == pytest.approx(slow_concordance(risk, time, event))
    weights, horizon = np.random.default_rng(seed).uniform(1, 3, 40), float(np.quantile(time, 0.7))
    found = concordance(risk, time, event, weights=weights, horizon=horizon)
    assert found == pytest.approx(slow_concordance(risk, time, event, weights, horizon))


def test_concordance_of_opposite_risks_sums_to_one():
    risk, time, event = cohort(50, 7, distinct=5, tied=True)
    assert concordance(risk, time, event) + concordance(-risk, time, event) == pytest.approx(1)
    assert concordance(np.zeros(50), time, event) == 0.5


def test_two_events_at_one_time_are_not_compared_and_an_event_precedes_a_censoring():
    assert math.isnan(concordance([1, 2], [3, 3], [1, 1]))
    assert concordance([1, 2], [3, 3], [0, 1]) == 1
    assert math.isnan(concordance([1, 2], [3, 4], [0, 0]))


def test_a_missing_prediction_loses_every_pair():
    risk, time, event = np.array([3.0, 2.0, 1.0, 0.0]), np.arange(1.0, 5), np.ones(4)
    assert concordance(risk, time, event) == 1
    risk[0] = np.nan
    assert concordance(risk, time, event) == pytest.approx(3 / 6)
    assert dynamic_auc(risk, time, event, at=2.5) == pytest.approx(2 / 4)


def test_concordance_agrees_with_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    from sksurv.util import Surv

    for seed in range(6):
        risk, time, event = cohort(80, seed, distinct=8 if seed % 2 else None, tied=seed % 3 == 0)
        assert concordance(risk, time, event) == pytest.approx(metrics.concordance_index_censored(event, time, risk)[0])
        _, train_time, train_event = cohort(120, seed + 50, distinct=8 if seed % 2 else None)
        horizon = float(np.quantile(train_time, 0.8))
        curve = censoring_curve(train_time, train_event)
        # scikit-survival asks for tests within the follow-up of the training part
        kept = time <= train_time.max()
        theirs = metrics.concordance_index_ipcw(
            Surv.from_arrays(train_event, train_time),
            Surv.from_arrays(event[kept], time[kept]),
            risk[kept],
            tau=horizon,
        )[0]
        weights = 1 / np.maximum(curve.at(time[kept]), 1e-12) ** 2
        ours = concordance(risk[kept], time[kept], event[kept], weights=weights, horizon=horizon)
        assert ours == pytest.approx(theirs)


def test_auc_and_brier_agree_with_scikit_survival():
    metrics = pytest.importorskip("sksurv.metrics")
    from sksurv.util import Surv

    for seed in range(4):
        risk, time, event = cohort(90, seed, distinct=9 if seed % 2 else None)
        _, train_time, train_event = cohort(150, seed + 80, distinct=9 if seed % 2 else None)
        kept = time < train_time.max()
        risk, time, event = risk[kept], time[kept], event[kept]
        times = np.quantile(time, [0.2, 0.4, 0.6])
        curve = censoring_curve(train_time, train_event)
        training, tested = Surv.from_arrays(train_event, train_time), Surv.from_arrays(event, time)
        theirs, _ = metrics.cumulative_dynamic_auc(training, tested, risk, times)
        weights = 1 / np.maximum(curve.at(time), 1e-12)
        ours = [dynamic_auc(risk, time, event, at=at, weights=weights) for at in times]
        np.testing.assert_allclose(ours, theirs)
        survival = np.exp(-np.exp(risk)[:, None] * times[None])
        _, their_brier = metrics.brier_score(training, tested, survival, times)
        found = brier_of_patients(survival, time, event, times, curve)
        np.testing.assert_allclose(found.mean(0), their_brier)
        theirs = metrics.integrated_brier_score(training, tested, survival, times)
        assert integrated(found, times).mean() == pytest.approx(theirs)


def test_auc_is_counted_pair_by_pair():
    risk, time, event = cohort(60, 11, distinct=6, tied=True)
    weights = np.random.default_rng(0).uniform(1, 2, 60)
    at = float(np.median(time))
    won = total = 0.0
    for i in range(60):
        for j in range(60):
            if event[i] and time[i] <= at < time[j]:
                total += weights[i]
                won += weights[i] * (1.0 if risk[i] > risk[j] else 0.5 if risk[i] == risk[j] else 0.0)
    assert dynamic_auc(risk, time, event, at=at, weights=weights) == pytest.approx(won / total)
    assert math.isnan(dynamic_auc(risk, time, event, at=0.0))


def test_kaplan_meier_agrees_with_lifelines():
    from lifelines import KaplanMeierFitter

    for seed in range(4):
        _, time, event = cohort(70, seed, distinct=5 if seed % 2 else None)
        fitted = KaplanMeierFitter().fit(time, event)
        at = np.linspace(0, time.max() + 1, 50)
        np.testing.assert_allclose(kaplan_meier(time, event).at(at), fitted.predict(at), atol=1e-12)


def test_without_ties_censoring_is_kaplan_meier_of_the_complement():
    _, time, event = cohort(60, 3)
    at = np.linspace(0, time.max(), 40)
    np.testing.assert_allclose(censoring_curve(time, event).at(at), kaplan_meier(time, ~event).at(at))


def test_an_event_is_not_at_risk_of_censoring_at_its_own_time():
    # Of four at time 1, one dies and one is censored: the censored one was one of three who could be.
    assert censoring_curve([1, 1, 2, 2], [1, 0, 0, 0]).at([1.0]).tolist() == [pytest.approx(2 / 3)]


def test_true_survival_has_a_lower_brier_score_than_shifted_survival():
    generator = np.random.default_rng(0)
    rate = generator.uniform(0.2, 3, 4000)
    hidden, censored = generator.exponential(1 / rate), generator.exponential(1.0, 4000)
    time, event = np.minimum(hidden, censored), hidden <= censored
    times = np.linspace(0.05, 1.0, 20)
    curve = censoring_curve(time, event)
    scores = [
        integrated(brier_of_patients(np.exp(-factor * rate[:, None] * times), time, event, times, curve), times).mean()
        for factor in (0.5, 1.0, 2.0)
    ]
    assert scores[1] == min(scores)
    # With all censoring weighted away it is the mean of S(1 - S), whatever censoring was.
    survival = np.exp(-rate[:, None] * times)
    assert scores[1] == pytest.approx(integrated(survival * (1 - survival), times).mean(), rel=0.05)


def test_brier_of_a_certain_and_right_prediction_is_zero():
    never = StepFunction(np.array([]), np.array([]))
    survival = np.array([[1.0, 0.0], [1.0, 1.0]])
    assert brier_of_patients(survival, [1.5, 9.0], [1, 1], [1.0, 2.0], never).tolist() == [[0, 0], [0, 0]]


def test_intervals_come_from_times_of_events_alone():
    time = np.array([1.0, 2, 3, 4, 100, 200, 300, 400])
    event = np.array([1, 1, 1, 1, 0, 0, 0, 0])
    intervals = Intervals.from_times(time, event, count=4)
    assert intervals.inner == (1.75, 2.5, 3.25)
    assert intervals.horizon == 400
    assert intervals.of(time).tolist() == [0, 1, 2, 3, 3, 3, 3, 3]
    assert np.bincount(intervals.of(time[event == 1])).tolist() == [1, 1, 1, 1]


def test_equal_quantiles_make_fewer_intervals_and_too_few_events_are_refused():
    assert Intervals.from_times([1, 1, 1, 1, 5, 6], [1, 1, 1, 1, 1, 0], count=4).count < 4
    with pytest.raises(DataError, match="2 events in the training part: too few to cut time into 4 intervals"):
        Intervals.from_times([1, 2, 3], [1, 1, 0], count=4)


def test_inside_an_interval_the_hazard_is_constant_and_survival_never_rises():
    intervals = Intervals((1.0, 3.0), 10.0)
    survival = np.array([[0.8, 0.5, 0.1]])
    found = intervals.survival_at(survival, np.linspace(0, 20, 200))
    assert found[0, 0] == 1
    assert (np.diff(found[0]) <= 1e-12).all()
    assert found[0, -1] == pytest.approx(0.1)
    assert intervals.survival_at(survival, [2.0])[0, 0] == pytest.approx((0.8 * 0.5) ** 0.5)
