"""Learning rates over steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipelines.training.schedules import learning_rate_factor, warmup_length
from pipelines.training.settings import ConstantSchedule, CosineSchedule, PolynomialSchedule, Schedule

SCHEDULES = [
    pytest.param(ConstantSchedule(), id="constant"),
    pytest.param(CosineSchedule(final=0.1), id="cosine"),
    pytest.param(PolynomialSchedule(power=0.9), id="polynomial"),
]


def curve(schedule: Schedule, total: int, warmup: int) -> list[float]:
    return [learning_rate_factor(schedule, step, total=total, warmup=warmup) for step in range(total)]


def test_cosine_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=20, eta_min=0.1)
    for factor in curve(CosineSchedule(final=0.1), 20, 0):
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_polynomial_is_that_of_pytorch() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=20, power=0.9)
    for factor in curve(PolynomialSchedule(power=0.9), 20, 0):
        assert factor == pytest.approx(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()


def test_warmup_rises_in_equal_steps_to_one() -> None:
    assert curve(ConstantSchedule(), 6, 4) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]
    assert curve(CosineSchedule(), 100, 4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]


@pytest.mark.parametrize("schedule", SCHEDULES)
@given(total=st.integers(1, 300), warmup=st.integers(0, 400))
def test_factors_stay_in_bounds_and_only_fall_after_the_warmup(schedule: Schedule, total: int, warmup: int) -> None:
    factors = curve(schedule, total, warmup)
    assert all(0 < factor <= 1 for factor in factors)
    falling = factors[warmup:]
    assert falling == sorted(falling, reverse=True)


def test_warmup_in_epochs_or_steps_but_not_both() -> None:
    assert warmup_length(CosineSchedule(warmup_epochs=1.5), 10) == 15
    assert warmup_length(CosineSchedule(warmup_steps=7), 10) == 7
    with pytest.raises(ValueError, match="not both"):
        CosineSchedule(warmup_epochs=1, warmup_steps=7)
