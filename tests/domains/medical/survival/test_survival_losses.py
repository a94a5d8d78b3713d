"""Losses against slow definitions, against lifelines, and their gradients."""

import itertools
import math

import numpy as np
import pytest
import torch

from domains.medical.survival.losses import ce_loss, cox_loss, nll_loss, risk_of, survival_of


def patients(number: int, seed: int = 0, distinct: int = 6):
    generator = torch.Generator().manual_seed(seed)
    risk = torch.randn(number, generator=generator, dtype=torch.float64)
    time = torch.randint(1, distinct + 1, (number,), generator=generator).double()
    event = (torch.rand(number, generator=generator) < 0.6).double()
    return risk, time, event


def slow_cox(risk, time, event, ties):
    """The textbook sums, one time after another."""
    total = 0.0
    for moment in sorted({float(t) for t, e in zip(time, event, strict=True) if e}):
        dead = [float(r) for r, t, e in zip(risk, time, event, strict=True) if t == moment and e]
        at_risk = sum(math.exp(float(r)) for r, t in zip(risk, time, strict=True) if t >= moment)
        tied = sum(map(math.exp, dead))
        for number, one in enumerate(dead):
            total += math.log(at_risk - (number / len(dead) * tied if ties == "efron" else 0.0)) - one
    return total / float(event.sum())


@pytest.mark.parametrize("ties", ["efron", "breslow"])
@pytest.mark.parametrize("seed", range(5))
def test_cox_is_the_textbook_sum(ties, seed):
    risk, time, event = patients(25, seed)
    assert cox_loss(risk, time, event, ties=ties).item() == pytest.approx(slow_cox(risk, time, event, ties), abs=1e-10)


def test_efron_is_what_lifelines_minimises():
    import pandas as pd
    from lifelines import CoxPHFitter

    risk, time, event = patients(60, 3, distinct=8)
    table = pd.DataFrame({"x": risk.numpy(), "time": time.numpy(), "event": event.numpy()})
    fitted = CoxPHFitter().fit(table, "time", "event")
    slope = torch.tensor(float(fitted.params_["x"]), dtype=torch.float64, requires_grad=True)
    loss = cox_loss(slope * risk, time, event)
    loss.backward()
    assert loss.item() == pytest.approx(-fitted.log_likelihood_ / float(event.sum()), rel=1e-6)
    assert slope.grad.item() == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_knows_only_the_order_of_times_and_differences_of_risks(ties):
    risk, time, event = patients(30, 1)
    loss = cox_loss(risk, time, event, ties=ties)
    shuffled = torch.randperm(30, generator=torch.Generator().manual_seed(4))
    assert cox_loss(risk[shuffled] + 7, (time[shuffled]) ** 3, event[shuffled], ties=ties).item() == pytest.approx(
        loss.item(), rel=1e-9
    )


@pytest.mark.parametrize("ties", ["efron", "breslow"])
def test_cox_has_the_gradient_of_its_values(ties):
    risk, time, event = patients(9, 2, distinct=3)
    assert torch.autograd.gradcheck(lambda x: cox_loss(x, time, event, ties=ties), risk.requires_grad_())


def test_cox_stays_finite_for_large_risks():
    risk = torch.tensor([900.0, -900.0, 880.0, 0.0], requires_grad=True)
    loss = cox_loss(risk, torch.tensor([1.0, 1.0, 2.0, 3.0]), torch.tensor([1.0, 1.0, 1.0, 0.0]))
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(risk.grad).all()


def test_a_batch_without_events_pulls_nowhere():
    risk = torch.randn(4, requires_grad=True)
    cox_loss(risk, torch.arange(4.0), torch.zeros(4)).backward()
    assert torch.equal(risk.grad, torch.zeros(4))


def test_likelihoods_of_all_outcomes_sum_to_one():
    hazards = torch.tensor([[0.2, 0.5, 0.3, 0.9]], dtype=torch.float64)
    one = torch.ones(1)
    events = [math.exp(-nll_loss(hazards, torch.tensor([k]), one).item()) for k in range(4)]
    survived = math.exp(-nll_loss(hazards, torch.tensor([3]), 0 * one).item())
    assert sum(events) + survived == pytest.approx(1)
    assert survived == pytest.approx(survival_of(hazards)[0, -1].item())


@pytest.mark.parametrize(
    ("alpha", "interval", "event"), list(itertools.product([0.0, 0.3, 1.0], [0, 2, 3], [0, 1])), ids=str
)
def test_likelihood_is_its_definition(alpha, interval, event):
    hazards = torch.tensor([[0.1, 0.6, 0.4, 0.7]], dtype=torch.float64)
    kept = np.cumprod(1 - hazards[0].numpy())
    before = 1.0 if interval == 0 else kept[interval - 1]
    if event:
        expected = -math.log(before) - math.log(hazards[0, interval])
    else:
        expected = -(1 - alpha) * math.log(kept[interval])
    found = nll_loss(hazards, torch.tensor([interval]), torch.tensor([event]), alpha=alpha)
    assert found.item() == pytest.approx(expected, rel=1e-6)


def test_hazards_of_one_and_nothing_give_finite_losses():
    hazards = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    for loss in (nll_loss, ce_loss):
        value = loss(hazards, torch.tensor([1, 1]), torch.tensor([1.0, 0.0]), alpha=0.2)
        (gradient,) = torch.autograd.grad(value, hazards)
        assert math.isfinite(value.item())
        assert torch.isfinite(gradient).all()


def test_a_higher_hazard_is_a_higher_risk():
    hazards = torch.tensor([[0.1, 0.1], [0.1, 0.2], [0.5, 0.1]])
    assert risk_of(hazards).argsort().tolist() == [0, 1, 2]
