"""What is peculiar to Gaussian adaptive attention."""

from __future__ import annotations

import math

import pytest
import torch

from shared_attention import build
from shared_attention.mechanisms.gates.gaam import Gaussians


def test_weights_of_a_part_sum_to_one() -> None:
    gate = Gaussians(heads=3, gaussians=4)
    weights = gate.weights(torch.randn(5, 11))
    for part in weights.split([3, 3, 5], -1):
        torch.testing.assert_close(part.sum(-1), torch.ones(5))


@pytest.mark.parametrize("spread", [1.0, 1e-2])
def test_folding_many_gaussians_into_one_is_exact_in_single_precision(spread: float) -> None:
    torch.manual_seed(0)
    gate = Gaussians(heads=1, gaussians=6)
    with torch.no_grad():
        gate.offsets.normal_()
    x = 7 + spread * torch.randn(4, 32)
    values = x.double()
    far = (values - values.mean(-1, keepdim=True))[..., None] - gate.offsets[0].double()
    far = far / (values.var(-1, keepdim=True) + 1e-8).sqrt()[..., None]
    widths = gate.widths[0].double()
    logits = (-far.square() / (2 * widths.square()) - 0.5 * (2 * math.pi * widths.square()).log()).sum(-1)
    expected = (logits - logits.logsumexp(-1, keepdim=True).clamp(min=math.log(1e-8))).exp()
    torch.testing.assert_close(gate.weights(x).double(), expected, rtol=2e-3, atol=1e-5)


def test_padding_values_stay_and_count_as_zeros_in_the_mean() -> None:
    gate = Gaussians(heads=1, gaussians=2, padding_value=-1.0)
    x = torch.tensor([[0.5, -1.0, 2.0, 0.0]])
    assert gate(x)[0, 1] == -1.0
    zeroed = torch.tensor([[0.5, 0.0, 2.0, 0.0]])
    for given, expected in zip(gate._moments(x, None), gate._moments(zeroed, None), strict=True):
        torch.testing.assert_close(given, expected)


def test_more_heads_than_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="heads 9 is above the 8 channels"):
        build("gaam", 8, rank=1, heads=9)
