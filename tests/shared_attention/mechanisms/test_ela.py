"""What is peculiar to efficient local attention."""

from __future__ import annotations

from typing import Literal

import pytest
import torch

from shared_attention import build
from shared_attention.mechanisms.gates.ela import EfficientLocalAttention


@pytest.mark.parametrize(
    ("size", "kernel", "groups", "norm_groups"),
    [
        pytest.param("tiny", 5, 64, 32, id="ELA-T"),
        pytest.param("base", 7, 64, 16, id="ELA-B"),
        pytest.param("small", 5, 8, 16, id="ELA-S"),
        pytest.param("large", 7, 8, 16, id="ELA-L"),
    ],
)
def test_sizes_are_those_of_the_paper(
    size: Literal["tiny", "base", "small", "large"], kernel: int, groups: int, norm_groups: int
) -> None:
    gate = EfficientLocalAttention(64, rank=2, size=size)
    assert (gate.conv.kernel_size, gate.conv.groups, gate.norm.groups) == ((kernel,), groups, norm_groups)


def test_turning_the_grid_turns_the_output() -> None:
    gate = EfficientLocalAttention(16, rank=2).eval()
    x = torch.randn(2, 5, 7, 16)
    torch.testing.assert_close(gate(x.transpose(1, 2)).transpose(1, 2), gate(x))


def test_a_line_of_padding_is_no_line() -> None:
    gate = EfficientLocalAttention(16, rank=2).double().eval()
    x = torch.randn(1, 4, 6, 16, dtype=torch.float64)
    mask = torch.ones(1, 4, 6, dtype=torch.bool)
    mask[:, 3:] = False
    mask[:, :, 5:] = False
    torch.testing.assert_close(gate(x, mask=mask)[:, :3, :5], gate(x[:, :3, :5]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kernel": 4}, "kernel 4 is not odd"),
        ({"groups": 5}, "groups 5 does not divide 16 channels"),
        ({"norm_groups": 0}, "norm_groups 0 does not divide 16 channels"),
    ],
)
def test_numbers_that_do_not_fit_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build("ela", 16, rank=2, **arguments)
