"""What is peculiar to attention over learned distances."""

from __future__ import annotations

import torch

from shared_attention.mechanisms.heads.relative_convolved import RelativeConvolved
from shared_attention.testing import random_weights


def mixer(**options: object) -> RelativeConvolved:
    built = RelativeConvolved(8, rank=1, heads=2, **options)  # type: ignore[arg-type]
    random_weights(built)
    return built.double().eval()


def test_context_is_a_memory_that_ends_with_the_tokens() -> None:
    module = mixer(causal=True, reach=20)
    x = torch.randn(2, 11, 8, dtype=torch.float64)
    whole, part = module(x), module(x[:, 5:], x)
    torch.testing.assert_close(part[:, 2:], whole[:, 7:])  # the first two queries miss what their convolution saw


def test_distances_beyond_the_reach_count_as_the_farthest() -> None:
    near, far = mixer(reach=2), mixer(reach=9)
    with torch.no_grad():
        state = near.state_dict()
        index = torch.arange(-9, 9).clamp(-2, 1) + 2
        state |= {name: state[name][index] for name in ("distance_key", "distance_bias")}
        far.load_state_dict(state)
    x = torch.randn(1, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(near(x), far(x))
