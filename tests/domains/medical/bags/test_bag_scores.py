"""Numbers of a set of bags, against scikit-learn where it has them, and where they are not defined."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sklearn import metrics

from domains.medical.bags import scores
from domains.medical.bags.curves import _precision_recall, _roc
from domains.medical.bags.judging import judge_bag, judge_bags, observe_bag, together
from domains.medical.bags.predictor import BagPrediction, attention_entropy
from domains.medical.bags.target import Target
from pipelines.cases import Case

RNG = np.random.default_rng(0)


def drawn(classes: int, count: int = 60) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    label = RNG.integers(0, classes, count)
    probability = RNG.dirichlet(np.ones(classes), count).round(2)  # rounded: ties
    return label, np.arange(classes) == label[:, None], probability


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_numbers_are_those_of_scikit_learn(classes: int) -> None:
    for _ in range(5):
        label, truth, probability = drawn(classes)
        target = Target(tuple("abcdef"[:classes]), column="label", values=tuple("012345"[:classes]))
        found = judge_bags(truth, probability, target)
        guess = probability.argmax(1)
        for number, name in enumerate(target.names):
            f1 = metrics.f1_score(label == number, guess == number)
            assert found[name, "f1"] == pytest.approx(f1)
            if (name, "auc") in found:
                one = truth[:, number], probability[:, number]
                assert found[name, "auc"] == pytest.approx(metrics.roc_auc_score(*one))
                assert found[name, "average_precision"] == pytest.approx(metrics.average_precision_score(*one))
                recall = metrics.recall_score(label == number, guess == number)
                assert found[name, "sensitivity"] == pytest.approx(recall)
                specificity = metrics.recall_score(label != number, guess != number)
                assert found[name, "specificity"] == pytest.approx(specificity)
        assert found["mean", "accuracy"] == pytest.approx(metrics.accuracy_score(label, guess))
        assert found["mean", "balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(label, guess))
    assert [name for name, metric in found if metric == "auc"] == (["b"] if classes == 2 else list(target.names))


def test_brier_and_likelihood_are_those_of_scikit_learn() -> None:
    label = RNG.integers(0, 2, 80)
    positive = RNG.uniform(0.01, 0.99, 80)
    probability = np.stack([1 - positive, positive], 1)
    target = Target(("no", "yes"), column="label", values=("0", "1"))
    found = judge_bags(np.arange(2) == label[:, None], probability, target)
    assert found["mean", "brier"] == pytest.approx(metrics.brier_score_loss(label, positive))
    assert found["mean", "likelihood"] == pytest.approx(math.exp(-metrics.log_loss(label, positive)))


def test_curves_are_those_of_scikit_learn() -> None:
    _, truth, probability = drawn(2)
    one = truth[:, 1], probability[:, 1]
    x, y, _ = metrics.roc_curve(*one, drop_intermediate=False)
    np.testing.assert_allclose(_roc(*one), (x, y))
    precision, recall, _ = metrics.precision_recall_curve(*one)
    np.testing.assert_allclose(_precision_recall(*one), (recall[::-1], precision[::-1]))


def test_calibration_error_is_the_gap_of_each_bin_by_its_size() -> None:
    sure = np.array([0.91, 0.93, 0.95, 0.55, 0.57, 1.0])
    right = np.array([True, True, False, True, False, True])
    # the bin above 0.9: 4 bags, mean 0.9475, 3 right; the bin of 0.5: 2 bags, mean 0.56, 1 right
    expected = 4 / 6 * abs(0.75 - 0.9475) + 2 / 6 * abs(0.5 - 0.56)
    assert scores.calibration_error(sure, right) == pytest.approx(expected)


def test_what_a_set_of_one_class_does_not_define_is_nan() -> None:
    truth = np.array([True, True])
    assert math.isnan(scores.area_under_roc(truth, np.array([0.1, 0.9])))
    assert math.isnan(scores.average_precision(~truth, np.array([0.1, 0.9])))
    assert math.isnan(scores.f1_score(0, 0, 0))


def prediction(*probabilities: float, attention: tuple[float, ...] = (0.5, 0.5)) -> BagPrediction:
    return BagPrediction(np.array(probabilities), np.array(attention, np.float32))


def test_a_failed_case_counts_as_predicted_as_badly_as_can_be() -> None:
    target = Target(("no", "yes"), column="label", values=("0", "1"))
    cases = [Case(f"c{number}", f"c{number}", {}, {"label": number % 2}) for number in range(6)]
    observed = {
        case.case_id: observe_bag(case, prediction(*((0.1, 0.9) if case.labels["label"] else (0.8, 0.2))), target)
        for case in cases
    }
    good = judge_bags(*together(cases, observed, target), target)
    assert good["yes", "auc"] == good["mean", "accuracy"] == 1
    del observed["c1"]
    found = judge_bags(*together(cases, observed, target), target)
    assert found["mean", "accuracy"] == pytest.approx(5 / 6)
    assert found["yes", "auc"] == pytest.approx(2 / 3)
    assert found["mean", "likelihood"] < 0.1
    rows = {row.metric: row.value for row in judge_bag(cases[1], None, target)}
    assert rows["correct"] == rows["probability"] == 0


def test_several_labels_are_judged_one_by_one() -> None:
    target = Target(("red", "round"), several=True)
    cases = [
        Case(f"c{number}", f"c{number}", {}, {"red": red, "round": shape})
        for number, (red, shape) in enumerate([(1, 1), (1, 0), (0, 1), (0, 0)])
    ]
    sure = [(0.9, 0.8), (0.7, 0.6), (0.2, 0.9), (0.3, 0.1)]
    observed = {
        case.case_id: observe_bag(case, prediction(*one), target) for case, one in zip(cases, sure, strict=True)
    }
    assert observed["c0"]["truth"] == "red;round"
    assert observed["c3"]["predicted"] == ""
    found = judge_bags(*together(cases, observed, target), target)
    assert found["red", "auc"] == found["round", "auc"] == 1
    assert found["red", "f1"] == 1
    assert found["round", "f1"] == pytest.approx(0.8)
    assert found["mean", "accuracy"] == 0.75
    assert found["mean", "balanced_accuracy"] == pytest.approx((1 + 0.75) / 2)


@pytest.mark.parametrize(
    ("attention", "entropy"),
    [((1.0, 0, 0, 0), 0.0), ((0.25,) * 4, 1.0), ((0.5, 0.5, 0, 0), 0.5), ((1.0,), math.nan)],
)
def test_entropy_says_how_evenly_instances_are_looked_at(attention: tuple[float, ...], entropy: float) -> None:
    assert attention_entropy(np.array(attention)) == pytest.approx(entropy, nan_ok=True)
