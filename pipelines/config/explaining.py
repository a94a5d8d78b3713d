"""Where one value of a workflow comes from, what it replaced, and what is allowed there."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from pipelines.config.load import ResolvedWorkflow
from pipelines.config.nodes import DEFAULT, KeyPath, Node, Origin, dotted, node_from_plain, plain, show
from pipelines.config.shapes import Shape
from pipelines.config.spelling import did_you_mean, nearest
from pipelines.config.wording import expectation
from pipelines.errors import ConfigurationError, Problem

__all__ = ["Explanation", "Step", "explain"]


@dataclass(frozen=True)
class Step:
    """A value that a later layer replaced."""

    value: Any
    origin: Origin

    def __str__(self) -> str:
        return f"{show(self.value)} from {self.origin}"


@dataclass(frozen=True)
class Explanation:
    """What is known of one key.

    Attributes:
        key: The dotted key.
        value: The value in use, as plain data.
        origin: Where it came from.
        overrode: What it replaced, the latest first, down to the default where there is one.
        expected: What is allowed there, in words.
        description: What the setting is for.
    """

    key: str
    value: Any
    origin: Origin
    overrode: tuple[Step, ...]
    expected: str
    description: str

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, for programs."""
        return {
            "key": self.key,
            "value": self.value,
            "origin": str(self.origin),
            "overrode": [{"value": step.value, "origin": str(step.origin)} for step in self.overrode],
            "expected": self.expected,
            "description": self.description,
        }

    def __str__(self) -> str:
        lines = [f"{self.key} = {show(self.value, 200)}", f"  from     {self.origin}"]
        lines += [f"  instead of {step}" for step in self.overrode]
        lines += [f"  allowed  {self.expected}"] if self.expected else []
        lines += [f"  {line.strip()}" for line in self.description.splitlines() if line.strip()]
        return "\n".join(lines)


def explain(resolved: ResolvedWorkflow, key: str) -> Explanation:
    """What one key of a workflow is, where it came from, and what it overrode.

    Args:
        resolved: The workflow.
        key: Dotted, with indices for items of lists: `model.attention.name`, `model.channels.0`.

    Raises:
        ConfigurationError: There is no such key.
    """
    path: list[str | int] = []
    value: Any = resolved.config
    shape: Shape | None = Shape.of(type(resolved.config))
    node: Node | None = resolved.tree
    described: Shape | None = shape
    around: Shape | None = None
    for part in key.split("."):
        inner, known = _inside(value, part)
        if inner is PydanticUndefined:
            known = [dotted((*path, name)) for name in known]
            everywhere = nearest(key, resolved.origins)
            hint = f"; did you mean {everywhere!r}?" if everywhere else did_you_mean(dotted((*path, part)), known)
            raise ConfigurationError([Problem("", key, f"no such key{hint}")])
        around, shape = shape, shape.child(part, _written(value, node)) if shape is not None else None
        node = node.child(part) if node is not None else None
        value = inner
        path.append(part)
        described = shape if shape is not None else described
    chooses = around is not None and around.discriminator == path[-1]
    return Explanation(
        key=dotted(tuple(path)),
        value=plain(node_from_plain(value, DEFAULT, resolved.sources[-1].parent)),
        origin=_origin(resolved, tuple(path)),
        overrode=_replaced(node, None if chooses else shape),
        expected=_choices(around) if chooses and around else expectation(shape) if shape is not None else "",
        description=_description(described),
    )


def _choices(section: Shape) -> str:
    """The names that choose between the variants of a section; the variant at hand knows only its own."""
    *others, last = [show(name) for name in section.variants()]
    return " or ".join(filter(None, (", ".join(others), last)))


def _inside(value: Any, part: str) -> tuple[Any, list[str]]:
    """What stands under a key of a validated value, and the keys that there are."""
    if isinstance(value, BaseModel):
        names = {
            info.validation_alias if isinstance(info.validation_alias, str) else name: name
            for name, info in type(value).model_fields.items()
        }
        return (getattr(value, names[part]) if part in names else PydanticUndefined), list(names)
    if isinstance(value, dict):
        by_text = {str(name): item for name, item in value.items()}
        return by_text.get(part, PydanticUndefined), list(by_text)
    if isinstance(value, (list, tuple)):
        index = int(part) if part.isascii() and part.isdigit() else len(value)
        return (value[index] if index < len(value) else PydanticUndefined), [str(index) for index in range(len(value))]
    return PydanticUndefined, []


def _written(value: Any, node: Node | None) -> Node | None:
    """What says which variant a section is: the tree, or the value itself where nothing is written."""
    if node is not None or not isinstance(value, BaseModel):
        return node
    return node_from_plain(value, DEFAULT, Path())


def _origin(resolved: ResolvedWorkflow, path: KeyPath) -> Origin:
    """The origin of a key, or of the innermost one around it."""
    for depth in range(len(path), 0, -1):
        found = resolved.origins.get(dotted(path[:depth]))
        if found is not None:
            return found
    return DEFAULT


def _replaced(node: Node | None, shape: Shape | None) -> tuple[Step, ...]:
    if node is None:
        return ()
    steps = []
    earlier = node.before
    while earlier is not None:
        steps.append(Step(plain(earlier), earlier.origin))
        earlier = earlier.before
    default = shape.default if shape is not None else PydanticUndefined
    if default is not PydanticUndefined and node.layer >= 0:
        steps.append(Step(plain(node_from_plain(default, DEFAULT, node.folder)), DEFAULT))
    return tuple(steps)


def _description(shape: Shape | None) -> str:
    if shape is None:
        return ""
    if shape.field is not None and shape.field.description:
        return shape.field.description
    return (shape.model.__doc__ or "") if shape.model is not None else ""
