"""From a tree to what pydantic validates: variants chosen, empty sections opened, text of variables read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pipelines.config.nodes import DEFAULT, Node, plain, show
from pipelines.config.paths import WrittenPath
from pipelines.config.reading import read_scalar
from pipelines.config.shapes import Shape

__all__ = ["settle", "validation_input"]


def settle(shape: Shape | None, node: Node) -> Node:
    """The tree with what its settings model implies written out.

    - A section that is written without content (`train:`) is the section of the earlier layer, or an empty one.
    - A mapping that does not say which variant it is (`attention: {heads: 4}`) is the default variant.
    - Text from environment variables becomes a number, a boolean or null where no text is allowed.
    """
    if shape is None:
        return node
    if node.value is None and not shape.nullable and shape.kind in ("model", "dict", "tagged-union"):
        earlier = node.before
        opened = earlier.value if earlier is not None and isinstance(earlier.value, dict) else {}
        node = replace(node, value=opened, before=earlier.before if earlier else None)
    if isinstance(node.value, str) and node.variables and not _takes_text(shape, node.value):
        node = replace(node, value=read_scalar(node.value))
    if isinstance(node.value, dict):
        tag = shape.default_tag
        items = dict(node.value)
        if tag is not None and shape.discriminator not in items:
            items = {shape.discriminator: Node(tag, DEFAULT, node.folder, layer=-1), **items}
            node = replace(node, value=items)
        settled = {key: settle(shape.child(key, node), child) for key, child in items.items()}
        return replace(node, value=settled)
    if isinstance(node.value, list):
        return replace(node, value=[settle(shape.child(index, node), child) for index, child in enumerate(node.value)])
    return node


def validation_input(shape: Shape | None, node: Node) -> Any:
    """Plain values for pydantic. Paths know their folder; `true` is no number, though Python would take it for one."""
    if shape is None:
        return plain(node)
    if isinstance(node.value, dict):
        return {key: validation_input(shape.child(key, node), child) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [validation_input(shape.child(index, node), child) for index, child in enumerate(node.value)]
    if isinstance(node.value, str) and any(leaf.is_path for leaf in shape.leaves()):
        return WrittenPath.in_folder(node.value, node.folder)
    if isinstance(node.value, bool):
        kinds = {leaf.kind for leaf in shape.leaves()}
        if kinds & {"int", "float"} and not kinds & {"bool", "any", "str"}:
            return show(node.value)
    return node.value


def _takes_text(shape: Shape, text: str) -> bool:
    """Whether text is a fitting value, as text."""
    for leaf in shape.leaves():
        if leaf.is_path or leaf.kind not in (
            "int",
            "float",
            "bool",
            "none",
            "literal",
            "enum",
            "list",
            "tuple",
            "dict",
        ):
            return True
        if leaf.kind in ("literal", "enum") and text in leaf.choices():
            return True
    return False
