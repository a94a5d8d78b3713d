"""YAML text to a tree of nodes with positions, and nothing else.

Only the events of PyYAML's parser are used: no loader ever constructs anything. Plain scalars follow YAML 1.2: `true`
and `false` are the only booleans, `1e-4` is a number; `0123`, `on`, dates and `12:30:00` are text. Tags, merge keys,
duplicate keys, keys that are not text, deep nesting, and aliases that expand to much are refused, each at its position.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from pipelines.config.nodes import Node, Origin, Scalar, dotted, show
from pipelines.errors import Problem

__all__ = ["MAX_BYTES", "ReadingError", "Source", "decode", "read_scalar", "read_text"]

MAX_BYTES = 1 << 20
_MAX_DEPTH = 40
_MAX_EXPANDED = 10_000
_MAX_DIGITS = 100

_NULL = re.compile(r"~|null|Null|NULL|")
_TRUE = re.compile(r"true|True|TRUE")
_FALSE = re.compile(r"false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"[-+]?\.(?:inf|Inf|INF)")
_NAN = re.compile(r"\.(?:nan|NaN|NAN)")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff\ufffe\uffff]")
_CODE_KEYS = frozenset({"_target_", "_partial_", "_args_", "_recursive_", "_convert_"})

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class ReadingError(Exception):
    """A text cannot be read at all; holds the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


@dataclass(frozen=True)
class Source:
    """Where a text is from.

    Attributes:
        display: Its name for people, or empty for the command line.
        folder: What relative paths in it are relative to.
        layer: Its place in the order of merging.
    """

    display: str
    folder: Path
    layer: int = 0

    def origin(self, mark: Any) -> Origin:
        """The place of a parser's mark."""
        return self.at(mark.line + 1, mark.column + 1)

    def at(self, line: int, column: int) -> Origin:
        """A place in the text."""
        return Origin("file", self.display, line, column) if self.display else Origin("command line")


def decode(data: bytes, display: str) -> str:
    """Text from the bytes of a file. Raises `ReadingError` for what is not UTF-8 text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise ReadingError(
            Problem(
                f"{display}:{line}:{column}", "", f"not UTF-8 text (byte 0x{data[error.start]:02x}); is it a YAML file?"
            )
        ) from None
    return text


def read_scalar(text: str) -> Scalar:
    """What a plain (unquoted) scalar means."""
    if _NULL.fullmatch(text):
        return None
    if _TRUE.fullmatch(text):
        return True
    if _FALSE.fullmatch(text):
        return False
    if len(text) <= _MAX_DIGITS:
        if _INTEGER.fullmatch(text):
            return int(text)
        if _BASED.fullmatch(text):
            return int(text, 0)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _INFINITY.fullmatch(text):
            return float(text.replace(".", ""))
        if _NAN.fullmatch(text):
            return float("nan")
    return text


def read_text(text: str, source: Source) -> tuple[Node | None, list[Problem]]:
    """A YAML document as a tree.

    Args:
        text: The document.
        source: Where it is from.

    Returns:
        The tree (None where there is nothing but comments), and the problems that leave the rest readable.

    Raises:
        ReadingError: The text is not one YAML document.
    """
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        column = control.start() - text.rfind("\n", 0, control.start())
        message = f"holds a control character (U+{ord(control.group()):04X}); is it a YAML file?"
        raise ReadingError(Problem(source.at(line, column).where, "", message))
    try:
        return _Builder(source, yaml.parse(text, Loader=_Loader)).document()
    except yaml.MarkedYAMLError as error:
        raise ReadingError(_syntax_problem(error, text, source)) from None
    except yaml.YAMLError as error:
        raise ReadingError(Problem(source.display or "command line", "", f"not valid YAML: {error}")) from None


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: Source) -> Problem:
    mark = error.problem_mark or error.context_mark
    where = source.origin(mark).where if mark else source.display
    said = ", ".join(part for part in (error.context, error.problem) if part)
    message = f"not valid YAML: {said}"
    lines = text.splitlines()
    if mark and mark.line < len(lines):
        line = lines[mark.line]
        if "\t" in line[: len(line) - len(line.lstrip())]:
            message += "; indent with spaces, not with tabs"
        elif "${" in line:
            message += "; between { } or [ ], a ${…} belongs in quotes"
        else:
            message += "; text with one of : # { } [ ] , & * ! | > ' \" % @ ` belongs in quotes"
    return Problem(where, "", message)


@dataclass
class _Builder:
    """Builds the tree from parser events; `sizes` counts nodes with all aliases written out."""

    source: Source
    events: Iterator[Any]
    anchors: dict[str, tuple[Node, int] | None] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    expanded: int = 0

    def document(self) -> tuple[Node | None, list[Problem]]:
        root: Node | None = None
        documents = 0
        for event in self.events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._fatal(event, "a second document starts here; a workflow file holds one")
                root = self._node(next(self.events), (), 0)[0]
        return root, self.problems

    def _fatal(self, event: Any, message: str) -> ReadingError:
        return ReadingError(Problem(self.source.origin(event.start_mark).where, "", message))

    def _report(self, origin: Origin, path: tuple[str | int, ...], message: str) -> None:
        self.problems.append(Problem(origin.where, dotted(path), message))

    def _node(self, event: Any, path: tuple[str | int, ...], depth: int) -> tuple[Node, int]:
        if depth > _MAX_DEPTH:
            raise self._fatal(event, f"nested deeper than {_MAX_DEPTH} levels")
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        origin = self.source.origin(event.start_mark)
        if event.tag is not None:
            self._report(
                origin,
                path,
                f"the tag {show(event.tag)} is refused: a workflow is plain data; write the value without it",
            )
        if event.anchor is not None:
            self.anchors[event.anchor] = None  # an alias met before the end of its own anchor is a loop
        value: Scalar | list[Node] | dict[str, Node]
        if isinstance(event, yaml.MappingStartEvent):
            value, size = self._mapping(path, depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            value, size = self._sequence(path, depth)
        else:
            value, size = (
                (read_scalar(event.value) if event.implicit[0] and event.style in (None, "") else event.value),
                1,
            )
        node = Node(value, origin, self.source.folder, layer=self.source.layer)
        if event.anchor is not None:
            self.anchors[event.anchor] = (node, size)
        return node, size

    def _alias(self, event: Any) -> tuple[Node, int]:
        if event.anchor not in self.anchors:
            raise self._fatal(event, f"*{event.anchor} refers to no anchor above it")
        anchored = self.anchors[event.anchor]
        if anchored is None:
            raise self._fatal(event, f"*{event.anchor} contains itself")
        node, size = anchored
        self.expanded += size
        if self.expanded > _MAX_EXPANDED:
            raise self._fatal(event, f"aliases expand to more than {_MAX_EXPANDED} values; write out what is meant")
        return replace(node, origin=self.source.origin(event.start_mark)), size

    def _sequence(self, path: tuple[str | int, ...], depth: int) -> tuple[list[Node], int]:
        items: list[Node] = []
        size = 1
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            node, inner = self._node(event, (*path, len(items)), depth + 1)
            items.append(node)
            size += inner
        return items, size

    def _mapping(self, path: tuple[str | int, ...], depth: int) -> tuple[dict[str, Node], int]:
        items: dict[str, Node] = {}
        size = 1
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key_origin = self.source.origin(event.start_mark)
            key = self._key(event, key_origin, path, depth)
            node, inner = self._node(next(self.events), (*path, key if key is not None else "?"), depth + 1)
            size += inner
            if key is None:
                continue
            if key in items:
                first = items[key].position
                self._report(key_origin, (*path, key), f"duplicate key; it stands at {first.where} already")
                continue
            items[key] = replace(node, key_origin=key_origin)
        return items, size

    def _key(self, event: Any, origin: Origin, path: tuple[str | int, ...], depth: int) -> str | None:
        """The key as text, or None (with its problem recorded) where it cannot be one."""
        if not isinstance(event, yaml.ScalarEvent):
            self._node(event, (*path, "?"), depth + 1)
            self._report(origin, path, "a key is text, not a list, a mapping or an alias")
            return None
        if event.tag is not None:
            self._report(
                origin,
                path,
                f"the tag {show(event.tag)} is refused: a workflow is plain data; write the key without it",
            )
            return None
        key: str = event.value
        is_plain = event.implicit[0] and event.style in (None, "")
        if is_plain and key == "<<":
            self._report(origin, path, "merge keys (<<) are refused; use 'extends', or write the keys out")
            return None
        meaning = read_scalar(key) if is_plain else key
        if meaning is None or isinstance(meaning, (bool, float)):
            self._report(origin, path, f"a key is text, not {show(meaning)}; put it in quotes")
            return None
        if key in _CODE_KEYS:
            self._report(
                origin, (*path, key), "refused: a workflow is data and cannot name Python code; choose by 'name'"
            )
            return None
        return key
