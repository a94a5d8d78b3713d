"""What a survival network is trained to minimise: discrete-time likelihoods and Cox's partial likelihood.

A patient is `(time, event)`: `event` is 1 where the end was seen and 0 where the patient was censored at `time`. A
discrete-time network gives the hazard of each interval, that is the probability of the event in it for a patient who
entered it; survival is the product of what is left.

>>> hazards = torch.tensor([[0.5, 0.5]])
>>> survival_of(hazards)
tensor([[0.5000, 0.2500]])
>>> round(float(nll_loss(hazards, torch.tensor([1]), torch.tensor([1.0]))), 4)  # -log(1 - 0.5) - log(0.5)
1.3863
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

__all__ = ["Ties", "ce_loss", "cox_loss", "nll_loss", "nll_of_patients", "risk_of", "survival_of"]

Ties = Literal["efron", "breslow"]

_EPS = 1e-7


def survival_of(hazards: Tensor) -> Tensor:
    """Probability of being without the event at the end of each interval: `(B, K)` from hazards `(B, K)`."""
    return torch.cumprod(1 - hazards, dim=-1)


def risk_of(hazards: Tensor) -> Tensor:
    """One number for each patient, higher for an earlier event: the negative sum of survival, `(B,)`."""
    return -survival_of(hazards).sum(-1)


def nll_of_patients(
    hazards: Tensor, intervals: Tensor, event: Tensor, *, alpha: float = 0.0, eps: float = _EPS
) -> Tensor:
    """Negative log-likelihood of each patient, `(B,)`.

    An event in interval `k` costs `-log S(k-1) - log h(k)`, a patient censored in it `-log S(k)`; `S(-1)` is 1.
    Logarithms are taken of values of at least `eps`, so a value below it has no gradient, as in the code of MCAT and
    CMTA (FT-ZHOU-ZZZ/CMTA@31340f6, utils/loss.py).

    Args:
        hazards: `(B, K)` in 0 to 1.
        intervals: `(B,)` int64, the interval of each patient's time.
        event: `(B,)`, 1 where the event was seen.
        alpha: Share of the loss that only patients with an event take part in; 1 leaves censored patients out.
        eps: Smallest argument of a logarithm.
    """
    survival = survival_of(hazards)
    at = intervals[:, None]
    before = torch.cat([torch.ones_like(survival[:, :1]), survival], 1).gather(1, at).squeeze(1)  # S(k-1)
    hazard, after = hazards.gather(1, at).squeeze(1), survival.gather(1, at).squeeze(1)
    event = event.to(hazards.dtype)
    uncensored = -event * (before.clamp(min=eps).log() + hazard.clamp(min=eps).log())
    censored = -(1 - event) * after.clamp(min=eps).log()
    return (1 - alpha) * (censored + uncensored) + alpha * uncensored


def nll_loss(hazards: Tensor, intervals: Tensor, event: Tensor, *, alpha: float = 0.0, eps: float = _EPS) -> Tensor:
    """Mean of `nll_of_patients`."""
    return nll_of_patients(hazards, intervals, event, alpha=alpha, eps=eps).mean()


def ce_loss(hazards: Tensor, intervals: Tensor, event: Tensor, *, alpha: float = 0.0, eps: float = _EPS) -> Tensor:
    """Cross-entropy of survival at the end of the patient's interval, and `alpha` of the likelihood of events.

    Here the code of MCAT and CMTA adds `eps` to `S(k-1)` where it clamps all else; that is kept.

    Args:
        hazards: `(B, K)` in 0 to 1.
        intervals: `(B,)` int64, the interval of each patient's time.
        event: `(B,)`, 1 where the event was seen.
        alpha: Weight of the likelihood of events; the cross-entropy has the rest.
        eps: Smallest argument of a logarithm.
    """
    survival = survival_of(hazards)
    at = intervals[:, None]
    before = torch.cat([torch.ones_like(survival[:, :1]), survival], 1).gather(1, at).squeeze(1)
    hazard, after = hazards.gather(1, at).squeeze(1), survival.gather(1, at).squeeze(1)
    event = event.to(hazards.dtype)
    likelihood = -event * ((before + eps).log() + hazard.clamp(min=eps).log())
    entropy = -(1 - event) * after.clamp(min=eps).log() - event * (1 - after).clamp(min=eps).log()
    return ((1 - alpha) * entropy + alpha * likelihood).mean()


def cox_loss(risk: Tensor, time: Tensor, event: Tensor, *, ties: Ties = "efron") -> Tensor:
    """Negative log partial likelihood (Cox, 1972) of a batch, divided by its number of events.

    At each time with events the risk set is every patient of the batch whose time is not earlier. Patients who died at
    the same time are told apart by no order: `efron` takes the mean over their orders into account, `breslow` leaves
    all of them in the risk set of each.

    Args:
        risk: `(B,)`, log of the relative hazard.
        time: `(B,)`.
        event: `(B,)`, 1 where the event was seen.
        ties: How equal times of events are treated.

    Returns:
        A scalar; 0 with a zero gradient where the batch has no event, since it then says nothing.
    """
    event = event.bool()
    if not bool(event.any()):
        return risk.sum() * 0
    order = torch.argsort(time, descending=True, stable=True)
    risk, time, event = risk[order], time[order], event[order]
    _, group, sizes = torch.unique_consecutive(time, return_inverse=True, return_counts=True)
    last = sizes.cumsum(0) - 1  # of each set of equal times
    at_risk = torch.logcumsumexp(risk, 0)[last][group]  # (B,) log of the summed hazard of the risk set
    if ties == "efron":
        at_risk = at_risk + _efron_correction(risk, at_risk, event, group, len(sizes))
    return (at_risk - risk)[event].sum() / event.sum()


def _efron_correction(risk: Tensor, at_risk: Tensor, event: Tensor, group: Tensor, groups: int) -> Tensor:
    """`log(1 - j/d * tied / all)` for event number `j` of `d` at one time; 0 where an event is alone."""
    counted = event.long()
    before = torch.cumsum(counted, 0) - counted  # events ahead of this one, over all times
    deaths = torch.zeros(groups, dtype=torch.long, device=risk.device).index_add_(0, group, counted)
    number = before - (deaths.cumsum(0) - deaths)[group]  # j
    # Each share is of the risk set of its own time, so it is at most one and nothing overflows.
    share = torch.where(event, (risk - at_risk).exp(), 0.0)
    tied = torch.zeros(groups, dtype=risk.dtype, device=risk.device).index_add(0, group, share)
    fraction = number.to(risk.dtype) / deaths.clamp(min=1)[group]
    return torch.log1p(-fraction * tied[group])
