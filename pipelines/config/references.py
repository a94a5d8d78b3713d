"""`${model.channels}`, `${.sibling}` and `${env:NAME,default}`: other keys and environment variables as values.

The syntax is OmegaConf's. Common forms are matched directly; nested, quoted and escaped ones go through its grammar.
Looking things up is done here, never by OmegaConf's resolvers, so nothing but a key or a variable can be named.
What a variable holds is data: it is never read as a reference again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

from pipelines.config.merging import is_reference
from pipelines.config.nodes import DEFAULT, KeyPath, Node, Scalar, dotted, find, node_from_plain, show
from pipelines.config.shapes import Shape
from pipelines.config.spelling import did_you_mean, nearest
from pipelines.errors import Problem

__all__ = ["Resolved", "resolve_references"]

_DATA_VARIABLE = "PULVINAR_DATA"
_MAX_LENGTH = 4096
_MAX_NESTED = 16
_MAX_GRAMMAR = 200
_MAX_TEXT = 1 << 20
_MAX_NODES = 20_000

_NAME = r"[A-Za-z_][A-Za-z0-9_]*"
_PLAIN = r"[^${}'\"\\,\[\]]"
_DEFAULT = rf"(?P<comma>,\s*(?P<default>(?!\s){_PLAIN}(?:{_PLAIN}*(?!\s){_PLAIN})?)\s*)?"
_VARIABLE = rf"env\s*:\s*(?P<variable>{_NAME})\s*{_DEFAULT}"
_KEY = r"(?P<key>\.*[\w-]+(?:\.[\w-]+)*)"
_SIMPLE = re.compile(rf"\$\{{\s*(?:{_VARIABLE}|{_KEY})\s*\}}")


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


@dataclass(frozen=True)
class _Piece:
    """A part of a text: written out, or the node that a reference stands for."""

    text: str
    node: Node | None = None


Lookup: TypeAlias = Callable[[], Node]


@dataclass(frozen=True)
class _Deferred:
    """A reference inside OmegaConf's visitor; looked up only where its value is used."""

    lookup: Lookup

    def __str__(self) -> str:
        return _as_text(self.lookup())


@dataclass
class _Resolver:
    tree: Node
    shape: Shape | None
    env: Mapping[str, str]
    cwd: Path
    result: Resolved
    done: dict[KeyPath, Node] = field(default_factory=dict)
    active: list[KeyPath] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)
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
        if path in self.active:
            circle = " → ".join(dotted(key) for key in (*self.active[self.active.index(path) :], path))
            raise _Unresolved(f"references go in a circle: {circle}")
        self.active.append(path)
        outer, self.variables = self.variables, []
        try:
            value = self.evaluate(str(node.value), node, path)
            variables = tuple(dict.fromkeys((*value.variables, *self.variables)))
        finally:
            self.active.pop()
            self.variables = outer
        self.done[path] = replace(
            value,
            origin=replace(node.origin, reference=str(node.value)),
            key_origin=node.key_origin,
            layer=node.layer,
            before=node.before,
            variables=variables,
        )
        return self.done[path]

    def evaluate(self, text: str, node: Node, path: KeyPath) -> Node:
        """What a text with references stands for: a whole value, or the text with the values put in."""
        pieces = self.pieces(text, path)
        if len(pieces) == 1:
            return pieces[0].node or replace(node, value=pieces[0].text)
        joined = "".join(_as_text(piece.node) if piece.node else piece.text for piece in pieces)
        self.text += len(joined)
        if self.text > _MAX_TEXT:
            raise _Unresolved("references grow to more than 1 MiB of text")
        first = pieces[0].node
        self.variables += [name for piece in pieces if piece.node for name in piece.node.variables]
        return replace(node, value=joined, folder=first.folder if first is not None else node.folder)

    def pieces(self, text: str, path: KeyPath) -> list[_Piece]:
        if len(text) > _MAX_LENGTH:
            raise _Unresolved(f"text with references is at most {_MAX_LENGTH} characters long, this has {len(text)}")
        pieces: list[_Piece] = []
        end = 0
        for match in _SIMPLE.finditer(text):
            before = text[end : match.start()]
            if "${" in before or before.endswith("\\"):
                return [self.by_grammar(text, path)]
            if before:
                pieces.append(_Piece(before))
            pieces.append(_Piece("", self.by_match(match, path)))
            end = match.end()
        if "${" in text[end:]:
            return [self.by_grammar(text, path)]
        return [*pieces, _Piece(text[end:])] if text[end:] else pieces

    def by_match(self, match: re.Match[str], path: KeyPath) -> Node:
        if match["key"] is not None:
            return self.by_key(match["key"], path)
        default = None
        if match["comma"] is not None:
            default = lambda: self.default_node(None if match["default"] == "null" else match["default"], path)  # noqa: E731
        return self.by_variable(match["variable"], default)

    def by_grammar(self, text: str, path: KeyPath) -> _Piece:
        """Through OmegaConf's grammar, with lookups of our own."""
        from omegaconf import grammar_parser
        from omegaconf.errors import OmegaConfBaseException
        from omegaconf.grammar_visitor import GrammarVisitor

        self.grammar += 1
        if self.grammar > _MAX_GRAMMAR or text.count("${") > _MAX_NESTED:
            raise _Unresolved("too many nested references; write them out")

        def key_callback(key: str, memo: Any) -> Any:
            return _Deferred(lambda: self.by_key(key, path))

        def resolver_callback(name: str, args: tuple[Any, ...], args_str: tuple[str, ...]) -> Any:
            return _Deferred(lambda: self.by_resolver(name, args, args_str, path))

        # the grammar warns about an empty default, which is meant
        text = re.sub(r"(\$\{\s*env\s*:\s*\w+\s*,)\s*\}", r'\1""}', text)
        try:
            visitor = GrammarVisitor(key_callback, resolver_callback, memo=None)
            value = visitor.visit(grammar_parser.parse(text))
        except OmegaConfBaseException:
            raise _Unresolved(
                f"{show(text)} is not a reference that is understood; write ${{section.key}} or ${{env:NAME,default}}, "
                "put a default with other characters in quotes, and write \\${ for a plain ${"
            ) from None
        if isinstance(value, _Deferred):
            return _Piece("", value.lookup())
        return _Piece(str(value))

    def by_resolver(self, name: str, args: tuple[Any, ...], texts: tuple[str, ...], path: KeyPath) -> Node:
        if name != "env":
            raise _Unresolved(
                f"${{{name}:…}} is refused: a workflow is data, and reads only "
                "${env:NAME}, ${env:NAME,default} and ${section.key}"
            )
        if not 1 <= len(args) <= 2 or not isinstance(args[0], str) or not re.fullmatch(_NAME, args[0]):
            raise _Unresolved("expected ${env:NAME} or ${env:NAME,default}; put a default with commas in quotes")
        default: Lookup | None = None
        if len(args) == 2:
            value, text = args[1], texts[1]
            if isinstance(value, _Deferred):
                default = value.lookup
            elif isinstance(value, (list, dict)):
                raise _Unresolved(f"a default is one plain value, not {show(text)}; put text in quotes")
            else:
                default = lambda: self.default_node(value if value is None or isinstance(value, str) else text, path)  # noqa: E731
        return self.by_variable(args[0], default)

    def by_variable(self, name: str, default: Lookup | None) -> Node:
        value = self.env.get(name)
        if name == _DATA_VARIABLE and not value:
            from pipelines.fixtures import data_root

            value = str(found) if (found := data_root()) is not None else None
        if value is not None:
            self.variables.append(name)
            return Node(value, DEFAULT, self.cwd)
        if default is not None:
            node = default()
            self.variables.append(name)
            return node
        near = nearest(name, (known for known in self.env if known.isidentifier()))
        meant = f" (did you mean {near}?)" if near else ""
        raise _Unresolved(
            f"the environment variable {name} is not set{meant}; set it, or give a default: ${{env:{name},default}}"
        )

    def default_node(self, value: Scalar, path: KeyPath) -> Node:
        """The default of a variable; its relative path belongs to the file that wrote it."""
        written = find(self.tree, path)
        return Node(value, DEFAULT, written.folder if written else self.cwd)

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
        found = here if resolved else self.resolve(here, target)  # what was resolved is data, not read a second time
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
        known = [dotted(path) for path in _keys(self.tree)]
        near = nearest(dotted(target), known)
        meant = (
            f"; did you mean ${{{near}}}?"
            if near
            else did_you_mean(dotted(target), [dotted(path) for path in _keys(self.tree, 1)])
        )
        raise _Unresolved(f"${{{key}}} refers to a key that is not there{meant}")

    def spend(self, node: Node) -> None:
        """Counts what references copy, so that they cannot grow without end."""
        self.nodes += self.size(node)
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


def _keys(node: Node, depth: int = 6) -> Iterable[KeyPath]:
    """Keys of the tree, the first few hundred."""
    found: list[KeyPath] = []
    level: list[tuple[KeyPath, Node]] = [((), node)]
    for _ in range(depth):
        level = [((*path, key), child) for path, here in level for key, child in here.children()][:300]
        found += [path for path, _ in level]
    return found[:300]


def _as_text(node: Node) -> str:
    if isinstance(node.value, (dict, list)):
        raise _Unresolved("a list or a section cannot be put inside text")
    if isinstance(node.value, str):
        return node.value
    return json.dumps(node.value)
