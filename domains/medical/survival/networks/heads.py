"""From the last layer to hazards and a risk.

>>> head = ProportionalHead([0.1, 0.2])
>>> hazards, risk = head(torch.zeros(1, 1))
>>> hazards.detach().round(decimals=4)  # nothing is known of the patient: the baseline
tensor([[0.1000, 0.2000]])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.medical.survival.losses import risk_of

__all__ = ["DiscreteHead", "ProportionalHead"]

_HAZARDS = (1e-3, 1 - 1e-3)
"""Bounds of a baseline: an interval in which nobody, or everybody, had an event could not be learned away from."""


class DiscreteHead(nn.Module):
    """A logit for each interval: hazards are its sigmoid, the risk is the negative sum of survival (as in MCAT, CMTA).

    Args:
        intervals: How many.
        baseline: Hazards for logits of zero, so that learning starts from what is usual; one half as published.
    """

    start: Tensor

    def __init__(self, intervals: int, baseline: Sequence[float] | None = None) -> None:
        super().__init__()
        self.inputs = intervals
        usual = torch.tensor(list(baseline) if baseline is not None else [0.5] * intervals, dtype=torch.float32)
        self.register_buffer("start", torch.logit(usual.clamp(*_HAZARDS)))

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, K)` to hazards `(B, K)` and risk `(B,)`, in float32."""
        hazards = torch.sigmoid(logits.float() + self.start)
        return hazards, risk_of(hazards)


class ProportionalHead(nn.Module):
    """One logarithm of a relative hazard for each patient, over a baseline that all share.

    A grouped proportional hazards model (Prentice and Gloeckler, 1978).

    Cox's partial likelihood trains the relative hazard and leaves the baseline open; the baseline is learned here, by
    the likelihood of the intervals, without pulling at the network: in an interval with baseline hazard `h`, a patient
    with relative hazard `exp(r)` has `1 - (1 - h) ** exp(r)`.

    Args:
        baseline: Hazards to start from, those of the training part without regard to who is who.
    """

    inputs = 1

    def __init__(self, baseline: Sequence[float]) -> None:
        super().__init__()
        start = torch.tensor(list(baseline), dtype=torch.float32).clamp(*_HAZARDS)
        self.baseline = nn.Parameter((-torch.log1p(-start)).log())  # (K,) log of the integrated hazard

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Logits `(B, 1)` to hazards `(B, K)` and risk `(B,)`, in float32; hazards pull at the baseline alone."""
        risk = logits.float().squeeze(-1)
        # Beyond this a hazard is 0 or 1 in float32 anyway.
        relative = (self.baseline + risk.detach()[:, None]).clamp(-30, 30)
        return -torch.expm1(-relative.exp()), risk
