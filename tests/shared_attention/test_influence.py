"""What an output token depends on, against derivatives taken one by one."""

from __future__ import annotations

import pytest
import torch

from shared_attention import build
from shared_attention.influence import influence


def test_it_is_the_size_of_the_derivative() -> None:
    mixer = build("full", 4, rank=1).double().eval()
    x = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = influence(mixer, x, [(2,), (4,)])
    assert found.shape == (2, 5)
    for row, place in zip(found, (2, 4), strict=True):
        sizes = []
        for sample in x:
            jacobian = torch.autograd.functional.jacobian(lambda one, at=place: mixer(one[None])[0, at], sample)
            sizes.append(jacobian.square().sum((0, 2)).sqrt())  # (E, N, C) to (N)
        torch.testing.assert_close(row, torch.stack(sizes).mean(0))


def test_place_that_is_not_there_is_refused() -> None:
    mixer, x = build("eca", 4, rank=2).eval(), torch.zeros(1, 3, 5, 4)
    for place in ((3, 0), (0, -1), (2,)):
        with pytest.raises(ValueError, match=r"is not on the grid \(3, 5\) of the output"):
            influence(mixer, x, [place])
