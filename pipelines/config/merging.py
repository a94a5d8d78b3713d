"""Layers over layers: mappings merge key by key, everything else is replaced, as OmegaConf merges.

OmegaConf's own merge knows no positions; this one keeps where each value stands and what it replaced.
"""

from __future__ import annotations

from dataclasses import replace

from pipelines.config.nodes import KeyPath, Node, dotted, show
from pipelines.errors import Problem

__all__ = ["is_reference", "merge", "put"]


def is_reference(value: object) -> bool:
    """Whether a value is text with a `${…}` in it."""
    return isinstance(value, str) and "${" in value


def merge(base: Node, over: Node, problems: list[Problem], path: KeyPath = ()) -> Node:
    """`over` laid over `base`.

    Args:
        base: The earlier layer.
        over: The later layer; it wins.
        problems: Where to add what cannot be merged.
        path: Where in the tree this is.
    """
    if isinstance(base.value, dict) and isinstance(over.value, dict):
        merged = dict(base.value)
        for key, node in over.value.items():
            earlier = merged.get(key)
            merged[key] = node if earlier is None else merge(earlier, node, problems, (*path, key))
        # a section is shown where a file has it, even when an override adds to it
        shown = base if over.origin.kind == "command line" and base.origin.kind == "file" else over
        return replace(shown, value=merged, layer=max(base.layer, over.layer), before=None)
    if isinstance(over.value, dict) and over.value and is_reference(base.value):
        inner = next(iter(over.value.values()))
        problems.append(
            Problem(
                (inner.position or over.origin).where,
                dotted(path),
                f"cannot add keys here: it is the reference {show(base)} at {base.origin.where}; replace it as a whole",
            )
        )
    return replace(over, before=base)


def put(root: Node, path: KeyPath, node: Node, problems: list[Problem]) -> Node:
    """The tree with `node` laid over what stands at `path`; missing mappings are made. Digits count items of a list."""
    return _put(root, path, 0, node, problems)


def _put(here: Node, path: KeyPath, depth: int, node: Node, problems: list[Problem]) -> Node:
    if depth == len(path):
        return merge(here, node, problems, path)
    key = path[depth]
    if isinstance(here.value, list):
        child = here.child(key)
        if child is None:
            many = len(here.value)
            allowed = (
                f"use an index from 0 to {many - 1}, or replace the list" if many else "the list is empty; replace it"
            )
            message = f"{dotted(path[:depth])} is a list with {many} items; {allowed}"
            problems.append(Problem(node.origin.where, dotted(path), message))
            return here
        items = list(here.value)
        items[int(key)] = _put(child, path, depth + 1, node, problems)
        return replace(here, value=items, layer=node.layer)
    if isinstance(here.value, dict):
        child = here.value.get(str(key))
        changed = _nested(path[depth + 1 :], node) if child is None else _put(child, path, depth + 1, node, problems)
        return replace(here, value=here.value | {str(key): changed}, layer=max(here.layer, node.layer))
    return merge(here, _nested(path[depth:], node), problems, path[:depth])


def _nested(path: KeyPath, node: Node) -> Node:
    """Mappings around a node, one for each key; each stands where the node stands."""
    nested = replace(node, key_origin=node.origin)
    for key in reversed(path):
        nested = Node({str(key): nested}, node.origin, node.folder, key_origin=node.origin, layer=node.layer)
    return nested
