"""The registry: found without being imported, built from plain values, refused with what is allowed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any, Literal

import pytest

from shared_attention import Card, TokenMixer, build, card, cards, names, register
from shared_attention.costs import CostFormula
from shared_attention.signatures import arguments_of

PLAIN = Card(
    name="never_registered",
    title="Nothing",
    paper="None",
    year=2024,
    kind="mixer",
    ranks=frozenset({1}),
    ordered=False,
    patterns=("self",),
    cost="N*C",
)


def test_asking_for_one_card_imports_that_file_alone() -> None:
    code = (
        "import sys; from shared_attention import card, names; listed = names(); "
        "assert not any('.mechanisms.' in name and name.count('.') == 3 for name in sys.modules); card('full'); "
        "print([name for name in sys.modules if name.startswith('shared_attention.mechanisms.') and "
        "name.count('.') == 3])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['shared_attention.mechanisms.plain.full']"


def test_cards_are_all_names_and_can_be_chosen() -> None:
    assert list(cards()) == names()
    assert set(cards(kind="mixer", rank=3)) <= set(cards(rank=3)) <= set(cards())
    assert all(3 in one.ranks for one in cards(rank=3).values())


def test_registering_a_name_twice_is_an_error() -> None:
    with pytest.raises(ValueError, match="mechanism 'full' is registered twice"):
        register(replace(card("full")))(type("Other", (TokenMixer,), {}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param({"name": "Two Words"}, "not lower case words", id="name"),
        pytest.param({"ranks": frozenset({4})}, "not among 1, 2, 3", id="rank"),
        pytest.param({"ranks": frozenset()}, "not among 1, 2, 3", id="no rank"),
        pytest.param({"kind": "thing"}, "not among the known", id="kind"),
        pytest.param({"patterns": ("sideways",)}, "not among the known", id="pattern"),
        pytest.param({"cost": "N*"}, "is not arithmetic", id="cost that does not parse"),
        pytest.param({"cost": "__import__('os')"}, "allowed are", id="cost that calls"),
        pytest.param({"cost": "N.real"}, "allowed are", id="cost that looks inside"),
    ],
)
def test_wrong_card_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(PLAIN, **change)


def test_unknown_name_gets_the_nearest_and_all() -> None:
    with pytest.raises(ValueError, match=r"no mechanism is called 'windw'; did you mean 'window'\? there are .*full"):
        build("windw", 8, rank=2)
    with pytest.raises(ValueError, match="full is a mixer, not a pool"):
        build("full", 8, rank=2, kind="pool")


def test_lists_from_a_file_serve_as_tuples() -> None:
    assert build("window", 8, rank=2, window=[2, 3]).window == (2, 3)
    with pytest.raises(ValueError, match=r"window \(2, 3, 4\) has 3 axes, the grid has 2"):
        build("window", 8, rank=2, window=[2, 3, 4])
    with pytest.raises(ValueError, match="heads 3 does not divide 8 channels; these do: 1, 2, 4, 8"):
        build("window", 8, rank=2, heads=3)


def test_layers_of_a_stack_alternate() -> None:
    one = card("window")
    shifts = [build("window", 8, rank=2, window=4, **one.layer_arguments(layer)).shift for layer in range(3)]
    assert shifts == [(0, 0), (2, 2), (0, 0)]
    assert card("full").layer_arguments(1) == {}


class Undescribed:
    """No arguments are described."""

    def __init__(self, dim: int, *, rank: int, size: int = 1) -> None: ...


class Positional:
    """One too many before the star.

    Args:
        size: A size.
    """

    def __init__(self, dim: int, size: int = 1, *, rank: int) -> None: ...


class Needed:
    """An argument without a default.

    Args:
        size: A size.
    """

    def __init__(self, dim: int, *, rank: int, size: int) -> None: ...


class Fancy:
    """An argument that no file can hold.

    Args:
        size: A size.
    """

    def __init__(self, dim: int, *, rank: int, size: dict[str, int] | None = None) -> None: ...


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        pytest.param(Undescribed, "has no line under Args", id="undescribed"),
        pytest.param(Positional, "not keyword-only with a default", id="positional"),
        pytest.param(Needed, "not keyword-only with a default", id="without a default"),
        pytest.param(Fancy, "which configuration cannot hold", id="not plain"),
    ],
)
def test_arguments_that_configuration_cannot_give_are_refused(kind: type, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        arguments_of(kind)


class Plain:
    """Arguments of every kind.

    Args:
        size: Spread over
            two lines.

        word: One of some.
        rates: Several.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        size: int | tuple[int, ...] | None = None,
        word: Literal["a", "b"] | int = "a",
        rates: tuple[float, ...] = (0.5,),
    ) -> None: ...


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [
        pytest.param("size", [3, (1, 2), None], [True, 2.0, (1.5,), (), "3", [1]], id="size"),
        pytest.param("word", ["a", "b", 4], ["c", None, 1.5], id="word"),
        pytest.param("rates", [(1, 0.5)], [0.5, ("x",), (True,)], id="rates"),
    ],
)
def test_values_are_judged_by_the_annotation(name: str, good: list[Any], bad: list[Any]) -> None:
    found = arguments_of(Plain)
    assert found["size"].description == "Spread over two lines."
    assert found["word"].choices == ("a", "b")
    assert found["size"].spelled == "int or tuple of int or None"
    assert all(found[name].accepts(value) for value in good)
    assert not any(found[name].accepts(value) for value in bad)


def test_cost_is_read_and_computed_from_one_line() -> None:
    formula = CostFormula("2*N**2*C + max(N, M)*log2(8)")
    assert str(formula) == "2·N²·C + max(N, M)·log2(8)"
    assert formula.names == {"N", "M", "C"}
    assert formula(N=4, M=2, C=3) == 108
    with pytest.raises(ValueError, match="needs C, M"):
        formula(N=1)
    window = card("window")
    assert window.cost_of(N=100, C=8, rank=2) == 4 * 100 * 64 + 2 * 100 * 49 * 8
    assert window.cost_of(N=100, C=8, rank=2, window=(2, 8)) == 4 * 100 * 64 + 2 * 100 * 16 * 8
