"""References to values: other keys, their defaults, and environment variables.

Looking things up is done here, never by OmegaConf's resolvers, so nothing but a key or a variable can be named. What a
variable holds is data: it is never read as a reference again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from pipelines.config.interpolation import InterpolationError, Key, Parts, Variable, parse
from pipelines.config.merging import is_reference
from pipelines.config.nodes import DEFAULT, KeyPath, Node, dotted, find, node_from_plain
from pipelines.config.shapes import Shape
from pipelines.config.spelling import did_you_mean, nearest
from pipelines.errors import Problem

__all__ = ["Resolved", "resolve_references"]

_DATA_VARIABLE = "PULVINAR_DATA"
_MAX_CHAIN = 50
_MAX_KEYS = 300
_MAX_GRAMMAR = 200
_MAX_SUGGESTIONS = 50
_MAX_TEXT = 1 << 20
_MAX_NODES = 20_000


class _Unresolved(Exception):
    """A reference has no value; holds why."""


@dataclass
class Resolved:
    """A tree without references.

    Attributes:
        tree: The tree; text that could not be resolved stays as it was written.
        problems: Why it could not.
        failed: The keys where that was.
    """

    tree: Node
    problems: list[Problem] = field(default_factory=list)
    failed: set[KeyPath] = field(default_factory=set)


def resolve_references(tree: Node, shape: Shape | None, env: Mapping[str, str], cwd: Path) -> Resolved:
    """Replaces every reference in a tree by its value.

    Args:
        tree: The merged tree.
        shape: The settings model, so that a reference to a key that is not written finds its default.
        env: Environment variables.
        cwd: What relative paths from environment variables are relative to.
    """
    resolver = _Resolver(tree, shape, env, cwd, Resolved(tree))
    resolver.result.tree = resolver.resolve(tree, ())
    return resolver.result


@dataclass
class _Resolver:
    tree: Node
    shape: Shape | None
    env: Mapping[str, str]
    cwd: Path
    result: Resolved
    done: dict[KeyPath, Node] = field(default_factory=dict)
    active: list[KeyPath] = field(default_factory=list)
    sizes: dict[int, int] = field(default_factory=dict)
    kept: list[Node] = field(default_factory=list)
    text: int = 0
    nodes: int = 0
    grammar: int = 0

    def resolve(self, node: Node, path: KeyPath) -> Node:
        """A node without references, in itself and below."""
        if isinstance(node.value, dict):
            return replace(node, value={key: self.resolve(child, (*path, key)) for key, child in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[self.resolve(child, (*path, index)) for index, child in enumerate(node.value)])
        if not is_reference(node.value):
            return node
        try:
            return self.resolve_text(node, path)
        except _Unresolved as error:
            # a circle, or a reference to a key that failed, is told once: where it starts
            if not self.active:
                self.result.problems.append(Problem(node.origin.where, dotted(path), str(error)))
                self.result.failed.add(path)
                return node
            raise

    def resolve_text(self, node: Node, path: KeyPath) -> Node:
        if path in self.done:
            return self.done[path]
        if len(self.active) > _MAX_CHAIN:
            raise _Unresolved(f"more than {_MAX_CHAIN} references follow one another")
        if path in self.active:
            circle = " → ".join(dotted(key) for key in (*self.active[self.active.index(path) :], path))
            raise _Unresolved(f"references go in a circle: {circle}")
        self.active.append(path)
        try:
            value = self.evaluate(str(node.value), node, path)
        finally:
            self.active.pop()
        self.done[path] = replace(
            value,
            origin=replace(node.origin, reference=str(node.value)),
            key_origin=node.key_origin,
            layer=node.layer,
            before=node.before,
        )
        return self.done[path]

    def evaluate(self, text: str, node: Node, path: KeyPath) -> Node:
        """What a text with references stands for: a whole value, or the text with the values put in."""
        try:
            parsed = parse(text)
        except InterpolationError as error:
            raise _Unresolved(str(error)) from None
        self.grammar += parsed.by_grammar
        if self.grammar > _MAX_GRAMMAR:
            raise _Unresolved(f"more than {_MAX_GRAMMAR} texts with nested or quoted references; write them out")
        return self.join(parsed.parts, node, path)

    def join(self, parts: Parts, node: Node, path: KeyPath) -> Node:
        """The one value of a single part, or the text of several; its relative path is that of the first part."""
        values = [
            part if isinstance(part, Node) else replace(node, value=part)
            for part in (
                self.look_up(part, node, path) if isinstance(part, (Key, Variable)) else part for part in parts
            )
        ]
        if len(values) == 1:
            return values[0]
        joined = "".join(map(_as_text, values))
        self.text += len(joined)
        if self.text > _MAX_TEXT:
            raise _Unresolved("references grow to more than 1 MiB of text")
        variables = tuple(name for value in values for name in value.variables)
        return replace(values[0], value=joined, variables=variables)

    def look_up(self, part: Key | Variable, node: Node, path: KeyPath) -> Node:
        if isinstance(part, Key):
            return self.by_key(part.path, path)
        value = self.env.get(part.name)
        if part.name == _DATA_VARIABLE and not value:
            from pipelines.fixtures import data_root

            value = str(found) if (found := data_root()) is not None else None
        if value is not None:
            if any("\ud800" <= character <= "\udfff" for character in value):
                raise _Unresolved(f"the environment variable {part.name} holds bytes that are not UTF-8 text")
            return replace(node, value=value, folder=self.cwd, variables=(part.name,))
        if part.default is not None:
            default = self.join(part.default, node, path)
            return replace(default, variables=(*default.variables, part.name))
        near = nearest(part.name, filter(str.isidentifier, self.env)) if self.suggesting else None
        meant = f" (did you mean {near}?)" if near else ""
        raise _Unresolved(
            f"the environment variable {part.name} is not set{meant}; "
            f"set it, or give a default: ${{env:{part.name},default}}"
        )

    def by_key(self, key: str, path: KeyPath) -> Node:
        target = _target(key, path)
        if path[: len(target)] == target:
            raise _Unresolved(f"${{{key}}} refers to {'itself' if path == target else 'a section that it stands in'}")
        here, resolved = self.tree, False
        for depth, part in enumerate(target):
            if is_reference(here.value) and not resolved:
                here, resolved = self.resolve(here, target[:depth]), True
            child = here.child(part)
            if child is None:
                return self.by_default(target, key)
            here = child
        self.spend(here)
        if resolved:
            return here  # what was resolved is data, and not read a second time
        found = self.resolve(here, target)
        self.spend(found)
        return found

    def by_default(self, target: KeyPath, key: str) -> Node:
        """The default of a key that is not written."""
        shape, node = self.shape, self.tree
        for depth, part in enumerate(target):
            if shape is None:
                break
            child = node.child(part)
            inner = shape.child(part, node)
            if child is not None:
                node, shape = child, inner
                continue
            default = inner.default if inner is not None else None
            if inner is None or inner.field is None or inner.field.is_required():
                break
            found = find(node_from_plain(default, DEFAULT, self.cwd), target[depth + 1 :])
            if found is None:
                break
            return found
        near = nearest(dotted(target), self.keys) if self.suggesting else None
        top = [key for key in self.keys if "." not in key]
        meant = f"; did you mean ${{{near}}}?" if near else did_you_mean("", top)
        raise _Unresolved(f"${{{key}}} refers to a key that is not there{meant}")

    @cached_property
    def keys(self) -> list[str]:
        """Dotted keys of the tree, the first few hundred."""
        found: list[str] = []
        level: list[tuple[KeyPath, Node]] = [((), self.tree)]
        while level and len(found) < _MAX_KEYS:
            level = [((*path, key), child) for path, here in level for key, child in here.children()][:_MAX_KEYS]
            found += [dotted(path) for path, _ in level]
        return found[:_MAX_KEYS]

    @property
    def suggesting(self) -> bool:
        """Whether to look for near spellings, which takes time; not for a file with no end of problems."""
        return len(self.result.problems) < _MAX_SUGGESTIONS

    def spend(self, node: Node) -> None:
        """Counts what references copy, so that they cannot grow without end."""
        self.nodes += self.size(node) if self.nodes <= _MAX_NODES else 0
        if self.nodes > _MAX_NODES:
            raise _Unresolved(f"references grow to more than {_MAX_NODES} values")

    def size(self, node: Node) -> int:
        if not isinstance(node.value, (dict, list)):
            return 1
        if id(node) not in self.sizes:
            self.kept.append(node)  # an id stays its node's own as long as the node lives
            self.sizes[id(node)] = 1 + sum(self.size(child) for _, child in node.children())
        return self.sizes[id(node)]


def _target(key: str, path: KeyPath) -> KeyPath:
    """The path that a reference at `path` names; a leading dot is the section it stands in, each more the one above."""
    dots = len(key) - len(key.lstrip("."))
    names: list[str | int] = [part for part in re.split(r"[.\[\]]+", key[dots:]) if part]
    if not dots:
        return tuple(names)
    if dots > len(path):
        raise _Unresolved(f"${{{key}}} goes above the top of the file")
    return (*path[: len(path) - dots], *names)


def _as_text(node: Node) -> str:
    if isinstance(node.value, (dict, list)):
        raise _Unresolved("a list or a section cannot be put inside text")
    if isinstance(node.value, str):
        return node.value
    return json.dumps(node.value)
