"""The registry: a card for each mechanism, and `build` that makes one from its name and plain arguments.

>>> import torch
>>> mixer = build("window", 32, rank=2, window=4, heads=2)
>>> mixer(torch.zeros(1, 9, 6, 32)).shape  # (B, *S, C)
torch.Size([1, 9, 6, 32])
>>> card("window").arguments["window"].default
7
>>> sorted(card("window").ranks)
[1, 2, 3]

A mechanism lives in `mechanisms/FAMILY/NAME.py`, is imported when first asked for, and registers itself there:

    @register(Card(name="window", title="Shifted windows", ...))
    class Window(TokenMixer): ...
"""

from __future__ import annotations

import importlib
import pkgutil
import re
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cache
from math import log10, prod
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from shared_attention import mechanisms
from shared_attention.arguments import choose_heads
from shared_attention.costs import CostFormula
from shared_attention.signatures import Argument, arguments_of

if TYPE_CHECKING:
    from shared_attention.contract import Mechanism, Pair, Pool, Reducer, TokenMixer

__all__ = ["Argument", "Card", "Kind", "Pattern", "Source", "build", "card", "cards", "names", "register"]

Kind = Literal["mixer", "gate", "pool", "pair", "reducer"]
Pattern = Literal["self", "causal", "cross", "causal cross"]

_M = TypeVar("_M", bound="Mechanism")


@dataclass(frozen=True)
class Source:
    """The published code that a mechanism is held against."""

    repository: str
    """`owner/name`."""
    commit: str
    """At least seven hexadecimal digits."""
    licence: str
    """SPDX name, or `none` where the repository has none."""


@dataclass(frozen=True)
class Card:
    """What is known of a mechanism before one is built.

    Args:
        name: As it is asked for: lower case, words joined by `_`, and the name of its file.
        title: As the field calls it.
        paper: Authors, title and where it appeared, or `arXiv:NUMBER`.
        year: Of the paper.
        kind: Which contract it fulfils; a gate is a mixer that only weighs its input.
        ranks: Grid axes it serves, of 1, 2, 3.
        ordered: Whether the order or place of tokens matters; where not, permuting tokens permutes the output.
        patterns: Ways of looking: at itself, at itself up to the own token (argument `causal`), at a context, at a
            context up to the own place.
        cost: Multiplications for one sample as a formula over `N`, `C`, ... (see `CostFormula`).
        formula: What is computed, an equation a line, in the letters of the contract page.
        source: Published code it is held against, None where there is none.
        fixtures: Names of reference outputs of that code; each needs an adapter.
        notes: Where code and paper differ, which one is the default, what to know before use.
        flat: A 2D grid of height one gives what 1D gives with the same weights.
        small: Arguments that show the structure on a grid of about eight tokens an axis, for figures and tests.
        stops_gradient: Gradients are stopped somewhere on purpose, so they are not those of the output.
        selects: Makes hard choices (top-k, argmax, thresholds), which may fall otherwise in lower precision.
        alternation: Arguments for the first layer of a stack, the second, ... and again; empty where all are alike.
    """

    name: str
    title: str
    paper: str
    year: int
    kind: Kind
    ranks: frozenset[int]
    ordered: bool
    patterns: tuple[Pattern, ...]
    cost: str
    formula: str = ""
    source: Source | None = None
    fixtures: tuple[str, ...] = ()
    notes: str = ""
    flat: bool = False
    small: Mapping[str, Any] = field(default_factory=dict)
    stops_gradient: bool = False
    selects: bool = False
    alternation: tuple[Mapping[str, Any], ...] = ()
    mechanism: type[Mechanism] | None = field(default=None, repr=False, compare=False)
    """The class; filled by `register`."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", self.name):
            raise ValueError(f"card name {self.name!r} is not lower case words joined by _")
        if not self.ranks or not self.ranks <= {1, 2, 3}:
            raise ValueError(f"card {self.name}: ranks {set(self.ranks)} are not among 1, 2, 3")
        if self.kind not in typing.get_args(Kind) or not set(self.patterns) <= set(typing.get_args(Pattern)):
            raise ValueError(
                f"card {self.name}: kind {self.kind!r} or patterns {self.patterns} are not among the known"
            )
        CostFormula(self.cost)

    @property
    def crosses(self) -> bool:
        """Whether it takes a context."""
        return "cross" in self.patterns or "causal cross" in self.patterns

    @property
    def family(self) -> str:
        """The folder it lives in, such as `windows`."""
        return self._class().__module__.split(".")[-2]

    @property
    def arguments(self) -> Mapping[str, Argument]:
        """What `build` takes besides channels and rank, in order.

        Raises:
            TypeError: The class takes something that is not a described, keyword-only, plain argument with a default.
        """
        return arguments_of(self._class())

    def cost_of(self, **sizes: Any) -> float:
        """Multiplications of one forward pass of one sample.

        Args:
            sizes: `N`, `C`, `rank` and so on as the formula needs them. Arguments of the mechanism that it names
                count with their default unless given; one given an axis counts as its geometric mean, so
                `window**rank` is its volume.
        """
        formula = CostFormula(self.cost)
        known = {name: argument.default for name, argument in self.arguments.items()} | sizes
        if "N" in known:
            known.setdefault("M", known["N"])
        if "C" in known:
            known["H"] = known.get("H") or known.get("heads") or choose_heads(known["C"])
            known["D"] = known.get("D") or known["C"] // known["H"]
        numbers = {key: prod(one) ** (1 / len(one)) if isinstance(one, tuple) else one for key, one in known.items()}
        return formula(**{key: one for key, one in numbers.items() if key in formula.names and one is not None})

    def growth(self, rank: int, *, C: int = 64) -> float:
        """The power of the number of tokens that the cost grows with, from 100,000 to a million of them."""
        few, many = (self.cost_of(N=count, C=C, rank=rank) for count in (10**5, 10**6))
        return log10(many / few)

    def layer_arguments(self, layer: int) -> dict[str, Any]:
        """Arguments that layer number `layer` (from zero) of a stack differs in, such as the shift of every second
        layer.
        """
        return dict(self.alternation[layer % len(self.alternation)]) if self.alternation else {}

    def _class(self) -> type[Mechanism]:
        if self.mechanism is None:
            raise ValueError(f"card {self.name} is not registered")
        return self.mechanism


_CARDS: dict[str, Card] = {}


def register(new: Card) -> Callable[[type[_M]], type[_M]]:
    """Class decorator: put a mechanism into the registry under its card.

    Raises:
        ValueError: The name is taken.
    """

    def enter(mechanism: type[_M]) -> type[_M]:
        if new.name in _CARDS:
            raise ValueError(f"mechanism {new.name!r} is registered twice, the second time by {mechanism.__module__}")
        filled = replace(new, mechanism=mechanism)
        mechanism.card = filled
        _CARDS[new.name] = filled
        return mechanism

    return enter


def names() -> list[str]:
    """Names of all mechanisms, sorted; nothing is imported for it."""
    return sorted(_files().keys() | _CARDS.keys())


def card(name: str) -> Card:
    """The card of one mechanism; its file is imported when first asked for.

    Raises:
        ValueError: No mechanism has this name; the message names the nearest and all.
    """
    if name not in _CARDS and name in _files():
        importlib.import_module(_files()[name])
    if name not in _CARDS:
        near = get_close_matches(name, names(), n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"no mechanism is called {name!r}{guess} there are {', '.join(names())}")
    return _CARDS[name]


def cards(*, kind: Kind | None = None, rank: int | None = None) -> dict[str, Card]:
    """All cards by name, sorted; only those of one kind, or that serve one grid rank, where asked for."""
    found = {name: card(name) for name in names()}
    return {
        name: one
        for name, one in found.items()
        if (kind is None or one.kind == kind) and (rank is None or rank in one.ranks)
    }


@typing.overload
def build(name: str, dim: int, *, rank: int, kind: Literal["pool"], **arguments: Any) -> Pool: ...
@typing.overload
def build(name: str, dim: int, *, rank: int, kind: Literal["pair"], **arguments: Any) -> Pair: ...
@typing.overload
def build(name: str, dim: int, *, rank: int, kind: Literal["reducer"], **arguments: Any) -> Reducer: ...
@typing.overload
def build(name: str, dim: int, *, rank: int, **arguments: Any) -> TokenMixer: ...
def build(name: str, dim: int, *, rank: int, kind: str = "mixer", **arguments: Any) -> Any:
    """Make a mechanism from its name and plain arguments.

    Args:
        name: As on its card.
        dim: Channels `C`.
        rank: Grid axes, 1 to 3.
        kind: The contract that is needed: `mixer` (gates serve too), `pool`, `pair` or `reducer`.
        arguments: See `card(name).arguments`; what is left out takes its default.

    Returns:
        The module, in training mode.

    Raises:
        ValueError: No such name, another kind, a rank that is not served, or an argument that does not exist or fit.
    """
    found = card(name)
    if found.kind != kind and (found.kind, kind) != ("gate", "mixer"):
        fitting = ", ".join(sorted(cards(kind=typing.cast(Kind, kind))))
        raise ValueError(f"{name} is a {found.kind}, not a {kind}; of that kind are {fitting or 'none yet'}")
    if rank not in found.ranks:
        fitting = ", ".join(key for key, one in cards(rank=rank).items() if one.kind == found.kind)
        served = ", ".join(map(str, sorted(found.ranks)))
        raise ValueError(f"{name} serves grids of {served} axes, not {rank}; for {rank} there are {fitting or 'none'}")
    return found._class()(dim, rank=rank, **_checked(found, arguments))


def _checked(found: Card, arguments: Mapping[str, Any]) -> dict[str, Any]:
    allowed = found.arguments
    checked = {}
    for key, given in arguments.items():
        if key not in allowed:
            near = get_close_matches(key, allowed, n=1)
            guess = f"; did you mean {near[0]!r}?" if near else ";"
            raise ValueError(f"{found.name} takes no argument {key!r}{guess} it takes {', '.join(allowed) or 'none'}")
        value = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else given
        if not allowed[key].accepts(value):
            raise ValueError(f"{found.name}: {key} {given!r} does not fit, allowed is {allowed[key].spelled}")
        checked[key] = value
    return checked


@cache
def _files() -> dict[str, str]:
    """Module path of each mechanism, from the file names alone."""
    families = [family.name for family in pkgutil.iter_modules(mechanisms.__path__) if family.ispkg]
    found: dict[str, str] = {}
    for family in families:
        folders = [f"{folder}/{family}" for folder in mechanisms.__path__]
        for module in pkgutil.iter_modules(folders):
            if not module.name.startswith("_"):
                found[module.name] = f"{mechanisms.__name__}.{family}.{module.name}"
    return found
