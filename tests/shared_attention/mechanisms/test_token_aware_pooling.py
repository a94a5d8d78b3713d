"""What is peculiar to token-aware pooling and to the loss that goes with it."""

from __future__ import annotations

import itertools

import pytest
import torch

from shared_attention import record_attention
from shared_attention.diversification import attention_diversification
from shared_attention.mechanisms.heads.token_aware_pooling import TokenAwarePooling, _average


@pytest.mark.parametrize("step", [1, 2, 4])
@pytest.mark.parametrize("grid", [(5,), (4, 3), (2, 3, 4)])
def test_average_counts_zeros_beyond_the_border(grid: tuple[int, ...], step: int) -> None:
    x = torch.randn(2, *grid, 3, dtype=torch.float64)
    expected = torch.zeros_like(x)
    taps = list(itertools.product((-step, 0, step), repeat=len(grid)))
    for place in itertools.product(*map(range, grid)):
        for tap in taps:
            other = tuple(a + b for a, b in zip(place, tap, strict=True))
            if all(0 <= at < size for at, size in zip(other, grid, strict=True)):
                expected[(slice(None), *place)] += x[(slice(None), *other)] / len(taps)
    torch.testing.assert_close(_average(x, step), expected)


def test_weights_given_are_those_that_mix() -> None:
    torch.manual_seed(0)
    mixer = TokenAwarePooling(16, rank=2, heads=2).eval()
    x = torch.randn(2, 3, 4, 16)
    with record_attention(mixer) as maps:
        mixer(x)
    torch.testing.assert_close(maps[""][0], mixer.attention_weights(x))


@pytest.mark.parametrize("tokens", [pytest.param(4, id="fewer than the grid"), pytest.param(20, id="more")])
def test_factors_of_logits_serve_any_grid(tokens: int) -> None:
    torch.manual_seed(0)
    mixer = TokenAwarePooling(8, rank=1, heads=2, gated_tokens=tokens).eval()
    plain = TokenAwarePooling(8, rank=1, heads=2).eval()
    plain.load_state_dict({name: value for name, value in mixer.state_dict().items() if name != "gate"})
    assert mixer.gate is not None
    x = torch.randn(1, 9, 8)
    with torch.no_grad():
        mixer.gate.fill_(50.0)  # a sigmoid of one: no factor
        torch.testing.assert_close(mixer(x), plain(x))
        mixer.gate.fill_(-50.0)  # of zero: even attention among the known
    known = min(tokens, 9)
    weights = mixer.attention_weights(x)[:, :, :known, :known]
    torch.testing.assert_close(weights, weights[..., :1].expand_as(weights))


def test_diversification_is_one_for_tokens_alike_and_less_for_others() -> None:
    alike = torch.zeros(1, 2, 6, 6)
    alike[..., 3] = 1.0
    torch.testing.assert_close(attention_diversification([alike, alike]), torch.tensor(1.0))
    different = torch.eye(6).expand(1, 2, 6, 6)
    assert attention_diversification([different], threshold=0.5) < 0.5


def test_diversification_trains_the_mixer() -> None:
    mixer = TokenAwarePooling(8, rank=1, heads=2)
    attention_diversification([mixer.attention_weights(torch.randn(1, 9, 8))], threshold=0.5).backward()
    assert mixer.qkv.weight.grad is not None
    assert mixer.qkv.weight.grad.abs().max() > 0


def test_diversification_without_maps_is_refused() -> None:
    with pytest.raises(ValueError, match="no attention maps"):
        attention_diversification([])
