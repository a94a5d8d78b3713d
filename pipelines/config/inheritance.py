"""Changing a variant in a later layer: what the former variant left behind goes, and a notice says so.

`model.attention.name=window` over a file that says `{name: full, heads: 4}` leaves `heads` where `window` takes it, and
drops it where `window` does not, or not with that value. What the same layer wrote, or a later one, is never dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pipelines.config.nodes import KeyPath, Node, dotted, find, plain, show
from pipelines.config.shapes import Shape

__all__ = ["drop_former_variants", "without"]


def drop_former_variants(shape: Shape, tree: Node, wrong: Iterable[KeyPath]) -> tuple[list[KeyPath], list[str]]:
    """Which of the wrong keys are leftovers of a former variant.

    Args:
        shape: The settings model.
        tree: The merged, resolved tree.
        wrong: Keys that validation refused.

    Returns:
        The keys to drop, and a notice for each variant that changed.
    """
    dropped: dict[KeyPath, None] = {}
    changes: dict[str, list[KeyPath]] = {}
    for path in wrong:
        for depth in range(len(path) - 1, -1, -1):
            change = _change(shape, tree, path[:depth])
            field = find(tree, path[: depth + 1])
            if change is None or field is None or path[depth] == change[0]:
                continue
            discriminator, former, new, layer = change
            if _last_layer(field) < layer:
                key = f"{dotted((*path[:depth], discriminator))}: {former} → {new}"
                if path[: depth + 1] not in dropped:
                    changes.setdefault(key, []).append(path[: depth + 1])
                dropped[path[: depth + 1]] = None
                break
    notices = []
    for key, paths in changes.items():
        fields = ", ".join(f"{dotted(path[-1:])}={show(plain(node))}" for path in paths if (node := find(tree, path)))
        notices.append(f"{key}; dropped {fields}")
    return list(dropped), notices


def without(node: Node, path: KeyPath) -> Node:
    """The tree less one key."""
    if isinstance(node.value, dict):
        key = str(path[0])
        if len(path) == 1:
            return replace(node, value={name: child for name, child in node.value.items() if name != key})
        return replace(node, value=node.value | {key: without(node.value[key], path[1:])})
    if isinstance(node.value, list):
        items = list(node.value)
        index = int(path[0])
        items[index] = without(items[index], path[1:])
        return replace(node, value=items)
    return node


def _change(shape: Shape, tree: Node, path: KeyPath) -> tuple[str, str, str, int] | None:
    """The key that chooses the variant at a path, what it was, what it is, and the layer that changed it."""
    here: Shape | None = shape
    node: Node | None = tree
    for part in path:
        if here is None or node is None:
            return None
        here, node = here.child(part, node), node.child(part)
    if here is None or node is None or not here.discriminator:
        return None
    name = node.child(here.discriminator)
    if name is None:
        return None
    first, earlier = name, name.before
    while earlier is not None and earlier.value == name.value:
        first, earlier = earlier, earlier.before
    former = earlier.value if earlier is not None else here.default_tag
    if not isinstance(former, str) or former == name.value:
        return None
    return here.discriminator, former, str(name.value), first.layer


def _last_layer(node: Node) -> int:
    return max([node.layer, *(_last_layer(child) for _, child in node.children())])
