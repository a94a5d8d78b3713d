"""Learning-rate schedules: pure functions of the optimizer step, so that a resumed run needs no state of theirs."""

from __future__ import annotations

import math

from pipelines.training.settings import ConstantSchedule, CosineSchedule, PolynomialSchedule

__all__ = ["learning_rate_factor", "warmup_length"]


def warmup_length(schedule: ConstantSchedule | CosineSchedule | PolynomialSchedule, steps_per_epoch: int) -> int:
    """Optimizer steps of the warm-up."""
    if schedule.warmup_steps is not None:
        return schedule.warmup_steps
    return round(schedule.warmup_epochs * steps_per_epoch)


def learning_rate_factor(
    schedule: ConstantSchedule | CosineSchedule | PolynomialSchedule, step: int, *, total: int, warmup: int
) -> float:
    """What `lr` is multiplied with at one optimizer step.

    The warm-up rises linearly and reaches 1 at its last step; the first step after it is still 1, and the step that
    would follow the last one is `final`. So no step has a learning rate of nothing, unless `final` is asked for.

    Args:
        schedule: The schedule.
        step: Optimizer step, from 0.
        total: Optimizer steps of the whole training.
        warmup: Optimizer steps of the warm-up.
    """
    if step < warmup:
        return (step + 1) / warmup
    if isinstance(schedule, ConstantSchedule):
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    if isinstance(schedule, CosineSchedule):
        shape = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        shape = (1 - progress) ** schedule.power
    return schedule.final + (1 - schedule.final) * shape
