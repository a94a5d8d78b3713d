r"""Text with `${model.channels}`, `${.sibling}` or `${env:NAME,default}` in it, taken apart. Nothing is looked up here.

The syntax is OmegaConf's. The plain forms are matched directly, which takes no time and lets a default be any path;
nested, quoted and escaped ones (`\${` is a plain `${`) go through OmegaConf's grammar.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from typing import Any, TypeAlias

from pipelines.config.nodes import show

__all__ = ["InterpolationError", "Key", "Parsed", "Parts", "Variable", "parse"]

_MAX_LENGTH = 4096
_MAX_NESTED = 16

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PLAIN = r"[^${}'\"\\,\[\]]"
_DEFAULT = rf"(?P<comma>,\s*(?P<default>(?!\s){_PLAIN}(?:{_PLAIN}*(?!\s){_PLAIN})?)?\s*)?"
_VARIABLE = rf"env\s*:\s*(?P<variable>{_NAME})\s*{_DEFAULT}"
_KEY = r"(?P<key>\.*[\w-]+(?:\.[\w-]+)*)"
_SIMPLE = re.compile(rf"\$\{{\s*(?:{_VARIABLE}|{_KEY})\s*\}}")
_MARK = re.compile("\0([0-9]+)\0")


class InterpolationError(ValueError):
    """A text with `${` in it is not understood, or names something that is refused."""


@dataclass(frozen=True)
class Key:
    """`${model.channels}`: the value of another key; leading dots start from the section it stands in."""

    path: str


@dataclass(frozen=True)
class Variable:
    """`${env:NAME}` or `${env:NAME,default}`: an environment variable; `default` is None where there is none."""

    name: str
    default: Parts | None = None


Parts: TypeAlias = tuple[str | Key | Variable | None, ...]
"""A text in its order: written out, null (only alone), or a reference."""


@dataclass(frozen=True)
class Parsed:
    """The parts of a text, and whether OmegaConf's grammar, which is slow, was needed."""

    parts: Parts
    by_grammar: bool


def parse(text: str) -> Parsed:
    """Takes a text apart. Raises `InterpolationError`."""
    if len(text) > _MAX_LENGTH:
        raise InterpolationError(f"text with references is at most {_MAX_LENGTH} characters long, this has {len(text)}")
    parts: list[str | Key | Variable | None] = []
    end = 0
    for match in _SIMPLE.finditer(text):
        between = text[end : match.start()]
        if "${" in between or between.endswith("\\"):
            return Parsed(_by_grammar(text), True)
        parts += [between, _matched(match)] if between else [_matched(match)]
        end = match.end()
    if "${" in text[end:]:
        return Parsed(_by_grammar(text), True)
    return Parsed((*parts, text[end:]) if text[end:] else tuple(parts), False)


def _matched(match: re.Match[str]) -> Key | Variable:
    if match["key"] is not None:
        return Key(match["key"])
    if match["comma"] is None:
        return Variable(match["variable"])
    return Variable(match["variable"], (None if match["default"] == "null" else match["default"] or "",))


def _by_grammar(text: str) -> Parts:
    """Through OmegaConf's grammar: references become marks in the text that it puts together, and are put back."""
    from omegaconf import grammar_parser
    from omegaconf.errors import OmegaConfBaseException
    from omegaconf.grammar_visitor import GrammarVisitor

    if text.count("${") > _MAX_NESTED:
        raise InterpolationError(f"more than {_MAX_NESTED} references in one text; write them out")
    if "\0" in text:
        raise InterpolationError("text with references cannot hold a NUL character")
    found: list[Key | Variable] = []

    def mark(reference: Key | Variable) -> Any:
        found.append(reference)
        return f"\0{len(found) - 1}\0"

    def on_key(path: str, memo: object) -> Any:
        if "\0" in path:
            raise InterpolationError(f"{show(text)}: a reference cannot be a part of another reference's key")
        return mark(Key(path))

    def on_resolver(name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
        return mark(_variable(name, args, args_str, found))

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # it warns of empty defaults, which are meant
            visited = GrammarVisitor(on_key, on_resolver, memo=None).visit(grammar_parser.parse(text))
    except OmegaConfBaseException:
        raise InterpolationError(
            f"{show(text)} is not a reference that is understood; write ${{section.key}} or ${{env:NAME,default}}, "
            "put a default with other characters in quotes, and write \\${ for a plain ${"
        ) from None
    return _unmarked(str(visited), found)


def _unmarked(text: str, found: list[Key | Variable]) -> Parts:
    pieces = _MARK.split(text)
    parts = [found[int(piece)] if index % 2 else piece for index, piece in enumerate(pieces)]
    return tuple(part for part in parts if part != "") or ("",)


def _variable(name: str, args: tuple[Any, ...], texts: tuple[str, ...], found: list[Key | Variable]) -> Variable:
    if name != "env":
        raise InterpolationError(
            f"${{{name}:…}} is refused: a workflow is data, and reads only "
            "${env:NAME}, ${env:NAME,default} and ${section.key}"
        )
    if not 1 <= len(args) <= 2 or not isinstance(args[0], str) or not re.fullmatch(_NAME, args[0]):
        raise InterpolationError("expected ${env:NAME} or ${env:NAME,default}; put a default with commas in quotes")
    if len(args) == 1:
        return Variable(args[0])
    value = args[1]
    if isinstance(value, (list, dict)):
        raise InterpolationError(f"a default is one plain value, not {show(texts[1])}; put text in quotes")
    if value is None:
        return Variable(args[0], (None,))
    return Variable(args[0], _unmarked(value if isinstance(value, str) else texts[1], found))
