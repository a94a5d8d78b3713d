"""Values that know where they were written.

A workflow file, an override and a merged workflow are all trees of `Node`: plain scalars, lists and mappings with text
keys, each with the place it came from and what it replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Literal, TypeAlias

__all__ = [
    "COMMAND_LINE",
    "DEFAULT",
    "KeyPath",
    "Node",
    "Origin",
    "Scalar",
    "dotted",
    "find",
    "node_from_plain",
    "plain",
    "show",
    "walk",
]

Scalar: TypeAlias = str | int | float | bool | None
KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Origin:
    """Where a value came from.

    Attributes:
        kind: A file, the command line, or the default of the setting.
        file: The file as it is shown to people; never an absolute path.
        line: Line in the file, from 1; 0 where there is none.
        column: Column in the file, from 1; 0 where there is none.
        reference: The `${…}` text that was written there, where the value was not written out.
    """

    kind: Literal["file", "command line", "default"]
    file: str = ""
    line: int = 0
    column: int = 0
    reference: str = ""

    @property
    def where(self) -> str:
        """`file:line:column`, `command line` or `default`."""
        return f"{self.file}:{self.line}:{self.column}" if self.kind == "file" else self.kind

    def __str__(self) -> str:
        return f"{self.where} ({self.reference})" if self.reference else self.where


COMMAND_LINE = Origin("command line")
DEFAULT = Origin("default")


@dataclass(frozen=True, slots=True)
class Node:
    """One value of a tree. Nodes are never changed, so that a tree may share them.

    Attributes:
        value: A scalar, a list of nodes, or a mapping of text to nodes.
        origin: Where the value stands.
        folder: What relative paths in it are relative to.
        key_origin: Where its key stands, in a mapping.
        layer: Which layer wrote it: files in the order they are merged, then the command line; for a mapping, the last.
        before: What it replaced, from an earlier layer.
        variables: Environment variables that its text was taken from.
    """

    value: Scalar | list[Node] | dict[str, Node]
    origin: Origin
    folder: Path
    key_origin: Origin | None = None
    layer: int = 0
    before: Node | None = field(default=None, repr=False)
    variables: tuple[str, ...] = ()

    @property
    def position(self) -> Origin:
        """Where a reader looks for it: its key in a mapping, else the value."""
        return self.key_origin or self.origin

    def child(self, key: str | int) -> Node | None:
        """The value under a key or an index, or None. Text of digits is an index in a list."""
        if isinstance(self.value, dict):
            return self.value.get(str(key))
        if isinstance(self.value, list):
            index = int(key) if isinstance(key, int) or (key.isascii() and key.isdigit() and len(key) < 9) else -1
            return self.value[index] if 0 <= index < len(self.value) else None
        return None

    def children(self) -> Iterator[tuple[str | int, Node]]:
        """Keys or indices, and what stands under them."""
        if isinstance(self.value, dict):
            yield from self.value.items()
        elif isinstance(self.value, list):
            yield from enumerate(self.value)


def dotted(path: KeyPath) -> str:
    """`("model", "channels", 0)` → `model.channels.0`; what a terminal could not show is escaped."""
    return ".".join(part if part.isprintable() else repr(part)[1:-1] for part in map(str, path))


def find(node: Node, path: KeyPath) -> Node | None:
    """The node at a path, or None."""
    found: Node | None = node
    for key in path:
        if found is None:
            return None
        found = found.child(key)
    return found


def walk(node: Node, path: KeyPath = ()) -> Iterator[tuple[KeyPath, Node]]:
    """All nodes below this one, and itself, with their paths."""
    yield path, node
    for key, child in node.children():
        yield from walk(child, (*path, key))


def plain(node: Node) -> Any:
    """The tree as plain Python values."""
    if isinstance(node.value, dict):
        return {key: plain(child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child) for child in node.value]
    return node.value


def node_from_plain(value: Any, origin: Origin, folder: Path) -> Node:
    """A tree from plain values; settings count as mappings, paths and enumerations as what a file would hold."""
    if hasattr(value, "model_dump"):
        value = {name: getattr(value, name) for name in type(value).model_fields}
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, PurePath):
        value = str(value)
    if isinstance(value, Mapping):
        return Node({str(key): node_from_plain(item, origin, folder) for key, item in value.items()}, origin, folder)
    if isinstance(value, (list, tuple, set, frozenset)):
        return Node([node_from_plain(item, origin, folder) for item in value], origin, folder)
    return Node(value if value is None or isinstance(value, (str, int, float)) else str(value), origin, folder)


def show(value: Any, limit: int = 60) -> str:
    """A value as a message shows it: `'fast'`, `0.1`, `true`, `null`, `[1, 2]`, `{heads: 3}`, shortened."""
    if isinstance(value, Node):
        value = value.value
    if isinstance(value, str):
        return _shorten(repr(value[: limit + 1]) if len(value) <= limit else repr(value[:limit])[:-1] + "…'", limit * 4)
    if value is None or isinstance(value, (bool, int)):
        return _shorten(
            json.dumps(value) if not isinstance(value, int) or abs(value) < 10**100 else "a huge number", limit
        )
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        shown = ", ".join(f"{dotted((key,))}: {show(item, 20)}" for key, item in list(value.items())[:8])
        return _shorten("{" + shown + "}", limit, "…}")
    if isinstance(value, (list, tuple)):
        return _shorten("[" + ", ".join(show(item, 20) for item in value[:20]) + "]", limit, "…]")
    return _shorten(str(value), limit)


def _shorten(text: str, limit: int, end: str = "…") -> str:
    return text if len(text) <= limit else text[: limit - len(end)] + end
