"""What a mechanism takes, read from its constructor and docstring, so that configuration needs no second list.

>>> class Blur:
...     '''Blur tokens.
...
...     Args:
...         dim: Channels.
...         rank: Grid axes.
...         size: Tokens that go into one.
...     '''
...     def __init__(self, dim: int, *, rank: int, size: int | tuple[int, ...] = 3) -> None: ...
>>> size = arguments_of(Blur)["size"]
>>> size.default, size.spelled, size.description
(3, 'int or tuple of int', 'Tokens that go into one.')
>>> size.accepts((3, 5)), size.accepts(True)
(True, False)
"""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

__all__ = ["Argument", "arguments_of"]


@dataclass(frozen=True)
class Argument:
    """One argument of a mechanism, as configuration needs it."""

    annotation: Any
    """Of `int`, `float`, `bool`, `Literal["..."]`, `tuple[int, ...]`, `tuple[float, ...]`, and their unions, also
    with None.
    """
    default: Any
    description: str

    def accepts(self, value: object) -> bool:
        """Whether a value is of the annotated type (a whole number serves as a float, True does not serve as a
        number).
        """
        return _fits(self.annotation, value)

    @property
    def choices(self) -> tuple[str, ...]:
        """The words that are allowed, where it is (also) one of some."""
        options = [option for option in _options(self.annotation) if typing.get_origin(option) is Literal]
        return tuple(word for option in options for word in typing.get_args(option))

    @property
    def spelled(self) -> str:
        """The annotation in words, such as `int or 'half'`."""
        return " or ".join(_word(option) for option in _options(self.annotation))


@cache
def arguments_of(mechanism: type) -> Mapping[str, Argument]:
    """What a mechanism takes besides channels and rank, in order.

    Raises:
        TypeError: It takes something that is not a described, keyword-only, plain argument with a default.
    """
    hints = typing.get_type_hints(mechanism.__init__)  # type: ignore[misc]
    described = _descriptions(inspect.getdoc(mechanism) or "")
    found = {}
    for name, parameter in inspect.signature(mechanism).parameters.items():
        if name in ("dim", "rank"):
            continue
        if parameter.kind is not parameter.KEYWORD_ONLY or parameter.default is parameter.empty:
            raise TypeError(f"{mechanism.__name__}: {name} is not keyword-only with a default")
        if name not in hints or not _plain(hints[name]):
            raise TypeError(
                f"{mechanism.__name__}: {name} is annotated {hints.get(name)}, which configuration cannot hold"
            )
        if name not in described:
            raise TypeError(f"{mechanism.__name__}: {name} has no line under Args: in the docstring of the class")
        found[name] = Argument(hints[name], parameter.default, described[name])
    return types.MappingProxyType(found)


def _descriptions(docstring: str) -> dict[str, str]:
    """The `name: text` entries under `Args:` of a Google-style docstring."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", docstring, re.MULTILINE)
    if section is None:
        return {}
    entries = re.split(r"^ {4}(\w+):[ \t]*", section[1], flags=re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in zip(entries[1::2], entries[2::2], strict=True)}


def _options(annotation: Any) -> tuple[Any, ...]:
    is_union = typing.get_origin(annotation) in (typing.Union, types.UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _plain(annotation: Any) -> bool:
    return all(
        option in (int, float, bool, type(None), tuple[int, ...], tuple[float, ...])
        or (typing.get_origin(option) is Literal and all(isinstance(word, str) for word in typing.get_args(option)))
        for option in _options(annotation)
    )


def _fits(annotation: Any, value: object) -> bool:
    for option in _options(annotation):
        if typing.get_origin(option) is Literal:
            if value in typing.get_args(option):
                return True
        elif typing.get_origin(option) is tuple:
            if isinstance(value, tuple) and value and all(_fits(typing.get_args(option)[0], one) for one in value):
                return True
        elif option is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return True
        elif type(value) is option:
            return True
    return False


def _word(option: Any) -> str:
    if typing.get_origin(option) is Literal:
        return " or ".join(map(repr, typing.get_args(option)))
    if typing.get_origin(option) is tuple:
        return f"tuple of {typing.get_args(option)[0].__name__}"
    return "None" if option is type(None) else str(option.__name__)
