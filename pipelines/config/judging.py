"""What pydantic found wrong, as problems that name the place, the key, what is allowed and the nearest spelling."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic_core.core_schema import ErrorType

from pipelines.config.nodes import KeyPath, Node, Origin, dotted, show
from pipelines.config.shapes import Shape
from pipelines.config.spelling import did_you_mean, nearest
from pipelines.config.wording import expectation
from pipelines.errors import Problem

__all__ = ["Finding", "findings"]

# the types of pydantic's own findings; the others were raised by a validator, with words of its own
_OWN = frozenset({*get_args(ErrorType), "path_type"}) - {"value_error", "assertion_error"}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        path: The key.
        origin: Where to look for it.
        message: Makes the message; late, since a hostile file can have many thousands.
    """

    path: KeyPath
    origin: Origin
    message: Callable[[], str]

    def problem(self) -> Problem:
        """The finding as it is told."""
        return Problem(self.origin.where, dotted(self.path), self.message())


@dataclass(frozen=True)
class _Place:
    """Where an error's location leads: as far as it exists in the tree and in the model."""

    path: KeyPath
    shape: Shape | None
    node: Node | None
    parent: Shape | None
    """What the section around it accepts."""
    union: Shape | None
    """The union of variants, where that section is one of them."""
    section: Node
    """The innermost mapping or list on the way that is written somewhere."""
    rest: tuple[str | int, ...]
    """Parts of the location that name no key: the member of a union, say."""


def findings(
    errors: Iterable[Mapping[str, Any]], root: Shape, tree: Node, top_keys: tuple[str, ...] = ()
) -> list[Finding]:
    """What pydantic's errors mean.

    Args:
        errors: `ValidationError.errors()`.
        root: The settings model.
        tree: What was validated.
        top_keys: Keys that are allowed at the top beside those of the model.
    """
    found: list[Finding] = []
    unions: dict[KeyPath, Finding] = {}  # no member of a union fits: one finding, not one for each member
    inside: set[KeyPath] = set()
    for error in errors:
        place = _locate(tuple(error["loc"]), root, tree)
        finding = _judge(error, place, root, top_keys)
        if place.shape is not None and place.shape.kind == "union":
            if place.path not in unions or _is_custom(error["type"]):
                unions[place.path] = finding
        else:
            found.append(finding)
            inside.update(finding.path[:depth] for depth in range(len(finding.path)))
    told = {(finding.path, finding.origin): finding for finding in reversed(found)}
    return [*reversed(told.values()), *(finding for path, finding in unions.items() if path not in inside)]


def _locate(location: tuple[str | int, ...], root: Shape, tree: Node) -> _Place:
    """Follows a location through the model, since it names tags and members of unions that no file holds."""
    shape: Shape | None = root
    node: Node | None = tree
    parent: Shape | None = None
    union: Shape | None = None
    chosen_from: Shape | None = None
    section = tree
    path: KeyPath = ()
    parts = list(location)
    while parts:
        if shape is not None and shape.discriminator:
            variants = shape.variants()
            if str(parts[0]) not in variants:
                break
            chosen_from, shape = shape, variants[str(parts.pop(0))]
            continue
        if shape is not None and shape.kind == "union":
            inner = _member(shape, parts, node)
            if inner is None:
                break
            shape = inner
            parts.pop(0)
            continue
        if shape is None or parts[0] == "[key]":
            break
        key = parts[0]
        inner_shape = shape.child(key, node)
        child = node.child(key) if node is not None else None
        if inner_shape is None and child is None:
            break
        path, parent, shape, node = (*path, key), shape, inner_shape, child
        union, chosen_from = chosen_from, None
        parts.pop(0)
        if child is not None:
            section = child
    return _Place(path, shape, node, parent, union, section, tuple(parts))


def _member(union: Shape, parts: list[str | int], node: Node | None) -> Shape | None:
    """The member of a union that an error is about: only where the value has its make and the error is inside it."""
    if len(parts) < 2 or node is None:
        return None
    for shape in union.fitting(node):
        named = shape.model is None or shape.model.__name__ == parts[0]
        key = parts[1]
        if named and (
            shape.child(key, node) is not None or node.child(key) is not None or str(key) in shape.variants()
        ):
            return shape
    return None


def _judge(error: Mapping[str, Any], place: _Place, root: Shape, top_keys: tuple[str, ...]) -> Finding:
    kind = error["type"]
    shape, node, section = place.shape, place.node, place.section
    if kind == "extra_forbidden":
        allowed = [*(place.parent.fields() if place.parent else ()), *(top_keys if len(place.path) == 1 else ())]
        return Finding(place.path, section.position, lambda: _unknown_key(place, allowed, root))
    if kind == "missing" and isinstance(section.value, list):
        return Finding(place.path[:-1], section.origin, lambda: _wrong_value(place.parent, section, error))
    if kind == "missing":
        return Finding(
            place.path, section.position, lambda: f"missing; expected {expectation(shape)}" if shape else kind
        )
    if kind in ("union_tag_invalid", "union_tag_not_found") and shape is not None and isinstance(section.value, dict):
        return _wrong_tag(shape, place)
    if place.rest[-1:] == ("[key]",) and node is not None and place.parent is not None:
        keys = place.parent.keys()
        return Finding(place.path, node.position, lambda: _wrong_key(keys, place.path[-1]))
    origin = section.position if node is None or isinstance(node.value, dict) else node.origin
    if _is_custom(kind):
        reason = str(error.get("ctx", {}).get("error") or error["msg"])
        return Finding(place.path, origin, lambda: reason)
    return Finding(place.path, origin, lambda: _wrong_value(shape, node, error))


def _wrong_tag(union: Shape, place: _Place) -> Finding:
    """A section does not say which variant it is, or names one that there is not."""
    name = union.discriminator
    tag = place.section.child(name)
    names = list(union.variants())
    path = (*place.path, name)
    if tag is None:
        return Finding(path, place.section.position, lambda: f"missing; say which{did_you_mean('', names)}")
    if not isinstance(tag.value, str):
        return Finding(path, tag.origin, lambda: f"expected one of {', '.join(names)}, got {show(tag)}")
    written = tag.value
    return Finding(path, tag.origin, lambda: f"unknown {name} {show(written)}{did_you_mean(written, names)}")


def _wrong_key(keys: Shape | None, key: str | int) -> str:
    return f"expected {expectation(keys) if keys else 'another key'} as a key, got {show(key)}"


def _unknown_key(place: _Place, allowed: list[str], root: Shape) -> str:
    key = str(place.path[-1]) if place.path else ""
    others: list[str] = []
    if place.union is not None:
        allowed = [name for name in allowed if name != place.union.discriminator]
        others = [name for name, variant in place.union.variants().items() if key in variant.fields()]
    hint = ""
    head, dot, tail = key.partition(".")
    if others:
        return f"unknown key; it belongs to {', '.join(others[:3])} (allowed: {', '.join(allowed)})"
    if dot and head in allowed:
        hint = f"; write {head}: with {tail}: below it"
    elif not nearest(key, allowed) and (home := _elsewhere(key, root)):
        hint = f"; it belongs in {home!r}"
    return f"unknown key{hint}{did_you_mean(key, allowed)}"


def _elsewhere(key: str, root: Shape) -> str:
    """The section of another part of the model that has this key, where just one has."""
    homes: list[str] = []

    def search(shape: Shape, path: KeyPath, depth: int) -> None:
        for name, inner in shape.fields().items():
            if name == key and path:
                homes.append(dotted(path))
            if depth < 4:
                search(inner, (*path, name), depth + 1)

    search(root, (), 0)
    return homes[0] if len(homes) == 1 else ""


def _wrong_value(shape: Shape | None, node: Node | None, error: Mapping[str, Any]) -> str:
    got = show(node) if node is not None else show(error.get("input"))
    if shape is None:
        return f"this value is refused, got {got}"
    hint = ""
    choices = [choice for choice in shape.choices() if isinstance(choice, str)]
    value = node.value if node is not None else None
    if isinstance(value, str):
        near = nearest(value, choices)
        hint = f"; did you mean {near!r}?" if near and near != value else ""
    elif isinstance(value, (bool, int, float)) and any(leaf.kind == "str" for leaf in shape.leaves()):
        hint = "; put it in quotes"
    if node is not None and node.variables:
        got += f" from {', '.join(node.variables)}"
    return f"expected {expectation(shape)}, got {got}{hint}"


def _names(names: list[str]) -> str:
    return f"one of {', '.join(names)}"


def _is_custom(kind: str) -> bool:
    """Whether a validator raised it, in words of its own."""
    return kind not in _OWN
