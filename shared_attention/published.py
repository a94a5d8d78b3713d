"""Published modules in ours: an adapter maps the authors' arguments, names and layouts.

    block = load_published("swin_block", constructor, state)      # the authors' weights in our module

An adapter is a class with `build`, `convert` and `run`, in `adapters/MECHANISM.py`. An argument or an entry of the
state that it does not look at is an error, so nothing is passed over in silence:

>>> given = Given({"dim": 8, "heads": 2, "drop": 0.1})
>>> given("dim"), given("heads", 4), given("bias", True)
(8, 2, True)
>>> given.unseen()
['drop']
>>> given.ignore("drop")
>>> import torch
>>> state = State({"to_q.weight": torch.zeros(8, 8), "index": torch.zeros(3)})
>>> list(state.rename({"to_q": "q"})), state.unseen()
(['q.weight'], ['index'])
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar

from torch import Tensor, nn

from shared_attention import adapters

__all__ = ["Adapter", "Given", "State", "adapter_classes", "adapts", "load_published", "register_adapters"]

_MISSING = object()


class Given:
    """The authors' constructor arguments, each to be looked at once."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self._arguments = dict(arguments)
        self._seen: set[str] = set()

    def __call__(self, name: str, default: Any = _MISSING) -> Any:
        """The value of an argument; the authors' own default where it is not given.

        Raises:
            ValueError: It is not given and has no default.
        """
        self._seen.add(name)
        if name not in self._arguments and default is _MISSING:
            raise ValueError(f"the constructor needs {name}; given are {', '.join(self._arguments)}")
        return self._arguments.get(name, default)

    def ignore(self, *names: str) -> None:
        """Say that arguments change nothing in evaluation (dropout rates, sizes that the input shows)."""
        self._seen.update(names)

    def only(self, name: str, *allowed: Any) -> None:
        """Say that an argument is served with these values alone.

        Raises:
            ValueError: It is given with another value.
        """
        if name in self._arguments and self(name) not in allowed:
            raise ValueError(f"{name}={self(name)!r} is not served, only {', '.join(map(repr, allowed))}")

    def unseen(self) -> list[str]:
        """Arguments that were not looked at."""
        return sorted(self._arguments.keys() - self._seen)


class State:
    """The authors' parameters and buffers, each to be used or dropped."""

    def __init__(self, entries: Mapping[str, Tensor]) -> None:
        self._entries = dict(entries)
        self._seen: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def __call__(self, name: str) -> Tensor:
        """One entry.

        Raises:
            ValueError: There is none of this name.
        """
        if name not in self._entries:
            raise ValueError(f"the state has no {name}; it has {', '.join(self._entries)}")
        self._seen.add(name)
        return self._entries[name]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """All entries of a module by their names inside it (`norm1` gives `weight` and `bias`)."""
        start = f"{prefix}."
        return {name[len(start) :]: self(name) for name in self._entries if name.startswith(start)}

    def rename(self, table: Mapping[str, str]) -> dict[str, Tensor]:
        """Entries under new names.

        Args:
            table: Authors' name of an entry, or of a module with all entries under it, to ours. What is not there is
                left out (a module without biases has none to give).
        """
        renamed = {}
        for theirs, ours in table.items():
            if theirs in self:
                renamed[ours] = self(theirs)
            renamed |= {f"{ours}.{name}": value for name, value in self.under(theirs).items()}
        return renamed

    def drop(self, *names: str) -> None:
        """Say that entries hold nothing that is learned (index tables, masks); a name stands for all under it too."""
        self._seen.update(one for one in self._entries for name in names if one == name or one.startswith(f"{name}."))

    def unseen(self) -> list[str]:
        """Entries that were neither used nor dropped."""
        return sorted(self._entries.keys() - self._seen)


class Adapter(ABC):
    """How one published module maps onto ours; one object serves one case.

    Args:
        given: The authors' constructor arguments.
        state: The authors' parameters and buffers.
        inputs: Tensors that the module is called with, where they are known; empty when only weights are loaded.
        call: What else it is called with, such as `size` or how often, under the authors' names; empty likewise.
    """

    fixture: str
    mechanism: str
    tolerance: float = 1e-5

    def __init__(
        self, given: Given, state: State, inputs: Mapping[str, Tensor], call: Mapping[str, Any] | None = None
    ) -> None:
        self.given = given
        self.state = state
        self.inputs = inputs
        self.call = Given(call or {})

    @abstractmethod
    def build(self) -> nn.Module:
        """Our module, from `given`."""

    @abstractmethod
    def convert(self) -> dict[str, Tensor]:
        """Our state, from `state`; loaded strictly."""

    @abstractmethod
    def run(self, module: nn.Module) -> dict[str, Tensor]:
        """Our outputs for `inputs`, under the names (`out` or `out.NAME`) and in the layout of the reference."""

    def load(self) -> nn.Module:
        """Our module with the authors' weights, in evaluation mode.

        Raises:
            ValueError: An argument or an entry of the state was not looked at, or does not fit.
        """
        module = self.build()
        if unseen := self.given.unseen():
            raise ValueError(f"arguments that the adapter does not know: {', '.join(unseen)}")
        converted = self.convert()
        if unseen := self.state.unseen():
            raise ValueError(f"entries of the state that the adapter does not know: {', '.join(unseen)}")
        try:
            module.load_state_dict(converted)
        except RuntimeError as error:
            raise ValueError(f"the state does not fit: {' '.join(str(error).split())}") from error
        return module.eval()


_ADAPTERS: dict[str, type[Adapter]] = {}
_A = TypeVar("_A", bound=Adapter)


def adapts(fixture: str, *, mechanism: str, tolerance: float = 1e-5) -> Callable[[type[_A]], type[_A]]:
    """Class decorator: this adapter serves the references of this name.

    Args:
        fixture: Name of the reference's folder.
        mechanism: Name on the card of ours; for a whole network that is built elsewhere from such mechanisms, its name
            with a `/`, such as `medical/bags/acmil`.
        tolerance: Absolute and relative difference allowed.

    Raises:
        ValueError: The reference has an adapter already.
    """

    def enter(adapter: type[_A]) -> type[_A]:
        if fixture in _ADAPTERS:
            raise ValueError(f"{fixture} has two adapters, the second in {adapter.__module__}")
        adapter.fixture, adapter.mechanism, adapter.tolerance = fixture, mechanism, tolerance
        _ADAPTERS[fixture] = adapter
        return adapter

    return enter


def load_published(
    fixture: str,
    constructor: Mapping[str, Any],
    state: Mapping[str, Tensor],
    inputs: Mapping[str, Tensor] | None = None,
) -> nn.Module:
    """Our module with weights of the authors' code.

    Args:
        fixture: Name of the published module, as on the cards (`card("window").fixtures`).
        constructor: Arguments that the authors' module was built from.
        state: Its parameters and buffers, under the authors' names.
        inputs: What it is called with, where the arguments alone do not say the sizes.

    Raises:
        ValueError: There is no adapter, or arguments or state do not fit.
    """
    known = adapter_classes()
    if fixture not in known:
        near = get_close_matches(fixture, known, n=1)
        guess = f"; did you mean {near[0]!r}?" if near else ";"
        raise ValueError(f"no adapter is called {fixture!r}{guess} there are {', '.join(sorted(known))}")
    return known[fixture](Given(constructor), State(state), inputs or {}).load()


_PACKAGES = [adapters.__name__]


def register_adapters(package: str) -> None:
    """Make the adapters of another package known: those of networks that are built from mechanisms elsewhere.

    Args:
        package: Import name of a package, each module of which holds adapters; imported when adapters are asked for.
    """
    if package not in _PACKAGES:
        _PACKAGES.append(package)


@cache
def _load(package: str) -> None:
    for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
        importlib.import_module(f"{package}.{module.name}")


def adapter_classes() -> dict[str, type[Adapter]]:
    """All adapters by the name of the reference they serve."""
    for package in _PACKAGES:
        _load(package)
    return _ADAPTERS
