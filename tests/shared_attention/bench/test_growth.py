"""Slopes, and every card's formula held to what its mechanism does."""

from __future__ import annotations

import math

import pytest

from shared_attention import cards, names
from shared_attention.bench import Measurement, Request, cost_slope, grid_of, growth, is_linear, slope
from shared_attention.bench.count import counted

SIZES = (3136, 12544)
"""Squares of 56 and 112, which the default windows divide: padding would hide the growth."""
GIB = 2**30


@pytest.mark.parametrize("power", [0.0, 1.0, 1.5, 2.0])
def test_slope_is_the_power(power: float) -> None:
    sizes = [100, 300, 1000, 5000]
    assert slope(sizes, [7 * size**power for size in sizes]) == pytest.approx(power)


@pytest.mark.parametrize(
    ("sizes", "values", "said"),
    [
        pytest.param([10], [1.0], "two different", id="one size"),
        pytest.param([10, 10], [1.0, 2.0], "two different", id="twice the same size"),
        pytest.param([10, 20], [0.0, 1.0], "above zero", id="a zero"),
    ],
)
def test_slope_refuses_what_has_none(sizes: list[float], values: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        slope(sizes, values)


def test_slope_of_a_formula_is_that_over_the_sizes_at_hand() -> None:
    small, large = (cost_slope("full", sizes, channels=1024, axes=2) for sizes in ([16, 64], [10_000_000, 40_000_000]))
    assert small < 1.1
    assert large == pytest.approx(2, abs=1e-3)


def test_growth_leaves_out_what_did_not_run_and_what_has_one_size() -> None:
    def measured(name: str, tokens: int, seconds: float, outcome: str = "ok") -> Measurement:
        return Measurement(Request(name, (tokens,), 64), outcome, seconds, 2 * seconds, 100, 100)  # type: ignore[arg-type]

    nothing = math.nan
    found = growth(
        [
            measured("window", 100, 1.0),
            measured("window", 200, 2.0),
            measured("window", 400, nothing, "timeout"),
            measured("eca", 100, 1.0),
        ]
    )
    assert [(one.name, one.sizes) for one in found] == [("window", (100, 200))]
    assert found[0].forward == pytest.approx(1)
    assert found[0].operations == pytest.approx(found[0].expected, abs=0.15)
    assert found[0].apart == found[0].operations - found[0].expected
    assert found[0].memory == pytest.approx(0)


@pytest.mark.parametrize(
    ("tokens", "axes", "grid"),
    [(12, 1, (12,)), (1024, 2, (32, 32)), (100_000, 2, (250, 400)), (100_000, 3, (40, 50, 50)), (1009, 2, (32, 32))],
)
def test_grid_is_the_squarest_of_so_many_tokens(tokens: int, axes: int, grid: tuple[int, ...]) -> None:
    assert grid_of(tokens, axes) == grid


@pytest.mark.parametrize("name", names())
def test_operations_grow_as_the_card_says(name: str) -> None:
    axes = 2 if 2 in cards()[name].ranks else max(cards()[name].ranks)
    counts = [counted(Request(name, grid_of(size, axes), 32), training=False, backend="oracle") for size in SIZES]
    done = [count.multiplications + count.elementwise for count in counts]
    assert slope(SIZES, done) == pytest.approx(cost_slope(name, SIZES, channels=32, axes=axes), abs=0.15)


@pytest.mark.parametrize("name", [name for name in names() if is_linear(name)])
def test_linear_mechanism_trains_on_100_000_tokens_within_6_gib(name: str) -> None:
    axes = 2 if 2 in cards()[name].ranks else max(cards()[name].ranks)
    assert counted(Request(name, grid_of(100_000, axes), 256)).peak < 6 * GIB
