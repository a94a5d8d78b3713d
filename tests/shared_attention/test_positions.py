"""Position parts against their formulas, pair by pair."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from shared_attention.positions import (
    AxialLogits,
    ContinuousBias,
    DynamicBias,
    LocalEnhancement,
    RelativeTable,
    Rotary,
    coordinates,
)

WINDOWS = [
    pytest.param((5,), (3,), id="1D"),
    pytest.param((3, 4), (3, 2), id="2D"),
    pytest.param((2, 3, 2), (1, 3, 2), id="3D"),
]


@pytest.mark.parametrize(("largest", "window"), WINDOWS)
def test_table_is_looked_up_by_offset(largest: tuple[int, ...], window: tuple[int, ...]) -> None:
    part = RelativeTable(largest, heads=2)
    for size in (largest, window):
        table, bias = part.table.view(*(2 * one - 1 for one in largest), 2), part(size)
        for (query, a), (key, b) in itertools.product(enumerate(coordinates(size).tolist()), repeat=2):
            apart = tuple(x - y + one - 1 for x, y, one in zip(a, b, largest, strict=True))
            assert torch.equal(bias[:, query, key], table[apart])


@pytest.mark.parametrize("trained", [None, (8, 8)])
def test_continuous_bias_follows_the_paper(trained: tuple[int, ...] | None) -> None:
    part = ContinuousBias((3, 4), heads=2, trained=trained)
    bias = part()
    for (query, a), (key, b) in itertools.product(enumerate(coordinates((3, 4)).tolist()), repeat=2):
        scaled = [8 * (x - y) / (unit - 1) for x, y, unit in zip(a, b, trained or (3, 4), strict=True)]
        spaced = [math.copysign(math.log2(1 + abs(one)) / 3, one) for one in scaled]
        expected = 16 * part.network(torch.tensor(spaced)).sigmoid()
        torch.testing.assert_close(bias[:, query, key], expected)
    assert torch.equal(part((2, 4)), part().view(2, 3, 4, 3, 4)[:, :2, :, :2].reshape(2, 8, 8))
    assert ContinuousBias((1, 4), heads=1)().isfinite().all()


@pytest.mark.parametrize(("largest", "window"), WINDOWS)
def test_dynamic_bias_is_a_network_of_the_offset(largest: tuple[int, ...], window: tuple[int, ...]) -> None:
    part = DynamicBias(32, rank=len(largest), heads=2)
    bias = part(window)
    for (query, a), (key, b) in itertools.product(enumerate(coordinates(window).tolist()), repeat=2):
        apart = torch.tensor([float(x - y) for x, y in zip(a, b, strict=True)])
        torch.testing.assert_close(bias[:, query, key], part.layers(part.first(apart)))


@pytest.mark.parametrize(
    ("queries", "keys"),
    [
        pytest.param((2,), (4,), id="1D"),
        pytest.param((2, 3), (4, 5), id="2D"),
        pytest.param((1, 2, 2), (3, 2, 4), id="3D"),
    ],
)
def test_axial_logits_sum_over_axes(queries: tuple[int, ...], keys: tuple[int, ...]) -> None:
    part = AxialLogits(queries, keys, head_dim=6)
    q = torch.randn(2, 3, math.prod(queries), 6, generator=torch.Generator().manual_seed(0))
    logits = part(q)
    for (query, a), (key, b) in itertools.product(
        enumerate(coordinates(queries).tolist()), enumerate(coordinates(keys).tolist())
    ):
        vector = sum(table[y - x + size - 1] for table, x, y, size in zip(part.tables, a, b, keys, strict=True))
        torch.testing.assert_close(logits[..., query, key], q[..., query, :] @ vector)


@pytest.mark.parametrize("interleaved", [False, True])
@pytest.mark.parametrize(("rank", "head_dim"), [(1, 6), (2, 8), (3, 14)])
def test_rotated_logits_depend_on_the_offset_alone(rank: int, head_dim: int, interleaved: bool) -> None:
    part = Rotary(head_dim, rank=rank, interleaved=interleaved).double()
    grid = (3, 4, 3)[:rank]
    q, k = torch.randn(2, head_dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    many = math.prod(grid)
    logits = part(q.expand(many, -1), grid) @ part(k.expand(many, -1), grid).T
    by_offset: dict[tuple[int, ...], float] = {}
    for (query, a), (key, b) in itertools.product(enumerate(coordinates(grid).tolist()), repeat=2):
        apart = tuple(x - y for x, y in zip(a, b, strict=True))
        assert math.isclose(
            by_offset.setdefault(apart, float(logits[query, key])), float(logits[query, key]), abs_tol=1e-6
        )
    assert len({round(value, 6) for value in by_offset.values()}) > 1
    torch.testing.assert_close(part(q[None], torch.zeros(1, rank)), q[None])


def test_rotation_on_a_line_is_the_published_one() -> None:
    part = Rotary(4, base=100.0, interleaved=True)
    x = torch.tensor([[1.0, 0.0, 1.0, 0.0]])
    turned = part(x, torch.tensor([[3]]))
    slow = 3 * 100 ** (-2 / 4)
    torch.testing.assert_close(turned, torch.tensor([[math.cos(3), math.sin(3), math.cos(slow), math.sin(slow)]]))
    halves = Rotary(4, base=100.0)(torch.tensor([[1.0, 1.0, 0.0, 0.0]]), torch.tensor([[3]]))
    torch.testing.assert_close(halves, torch.tensor([[math.cos(3), math.cos(slow), math.sin(3), math.sin(slow)]]))
    with pytest.raises(ValueError, match="head_dim 4 is below 6, the least that 3 axes can rotate"):
        Rotary(4, rank=3)


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_local_enhancement_is_a_depthwise_convolution_with_zeros_around(rank: int) -> None:
    part = LocalEnhancement(2, rank=rank)
    x = torch.zeros(1, *[3] * rank, 2)
    x[(0, *[1] * rank)] = 1.0
    expected = part.conv.weight.flatten(2).flip(-1).squeeze(1).T + part.conv.bias
    torch.testing.assert_close(part(x).flatten(1, -2)[0], expected)
