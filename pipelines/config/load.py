"""A workflow file to a validated, frozen configuration that knows where each value came from.

extends files → the file → key=value overrides → ${…} references → validation

resolved = load_workflow(Path("hippocampus.yaml"), ["train.lr=1e-4"])
resolved.config.train.lr          # 0.0001
resolved.origins["train.lr"]      # command line
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from pipelines.config.inheritance import drop_former_variants, without
from pipelines.config.judging import Finding, findings
from pipelines.config.layers import EXTENDS, apply_overrides, expand_home, read_layers, sort_problems
from pipelines.config.merging import is_reference
from pipelines.config.nodes import DEFAULT, KeyPath, Node, Origin, dotted, show, walk
from pipelines.config.references import resolve_references
from pipelines.config.settling import settle, validation_input
from pipelines.config.shapes import Shape
from pipelines.config.spelling import did_you_mean
from pipelines.errors import ConfigurationError, Problem
from pipelines.task import find_task, registered_tasks

if TYPE_CHECKING:
    from pipelines.workflow import WorkflowConfig

__all__ = ["ResolvedWorkflow", "load_workflow"]

_MAX_PROBLEMS = 50


@dataclass(frozen=True)
class ResolvedWorkflow:
    """A validated workflow.

    Attributes:
        config: The configuration, frozen.
        origins: Dotted key → where its value came from, for every key, defaults included.
        notices: What was done that the writer may not expect, for example fields dropped with a former variant.
        sources: The files that were read, in the order they were merged.
        tree: The values as they were written and resolved, with what each replaced; `explain` reads it.
    """

    config: WorkflowConfig
    origins: Mapping[str, Origin]
    notices: tuple[str, ...]
    sources: tuple[Path, ...]
    tree: Node = field(repr=False)


def load_workflow(
    path: str | os.PathLike[str],
    overrides: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> ResolvedWorkflow:
    """Reads, merges, resolves and validates a workflow.

    Args:
        path: The workflow file.
        overrides: `key=value` texts; the values are YAML. Later ones win.
        env: Environment variables; those of the process by default.
        cwd: What `path`, and relative paths in overrides, are relative to; the current folder by default.

    Returns:
        The configuration of the task that the file names, with origins and notices.

    Raises:
        ConfigurationError: Holds every problem of all files and overrides, by position.
    """
    folder = Path.cwd() if cwd is None else cwd
    try:
        return _load(folder / expand_home(path), overrides, os.environ if env is None else env, folder)
    except RecursionError:
        raise ConfigurationError("references nest values too deeply; write them out") from None


def _load(path: Path, overrides: Sequence[str], env: Mapping[str, str], folder: Path) -> ResolvedWorkflow:
    layers = read_layers(path, folder)
    tree = apply_overrides(layers, overrides, folder)
    problems = layers.problems
    model = _find_config(tree, problems)
    if model is None:
        raise ConfigurationError(sort_problems(problems, layers.displays)[:_MAX_PROBLEMS])
    shape = Shape.of(model)
    resolved = resolve_references(tree, shape, env, folder)
    problems += resolved.problems
    config, tree, found, notices = _validate(model, shape, settle(shape, resolved.tree))
    found = [finding for finding in found if not _within(finding.path, resolved.failed)]
    if found or problems or config is None:
        raise ConfigurationError(_told(found, problems, layers.displays))
    return ResolvedWorkflow(config, dict(_origins(config, tree)), tuple(notices), layers.sources, tree)


def _find_config(tree: Node, problems: list[Problem]) -> type[WorkflowConfig] | None:
    """The settings model of the task that the tree names, or None with the problem recorded."""
    names = [entry.name for entry in registered_tasks()]
    node = tree.child("task")
    if node is None or node.value is None:
        where = (node or tree).position.where
        problems.append(Problem(where, "task", f"missing; say which task this is{did_you_mean('', names)}"))
        return None
    if is_reference(node.value):
        message = f"references are refused here, since the task says what the other keys mean{did_you_mean('', names)}"
        problems.append(Problem(node.origin.where, "task", message))
        return None
    if node.value not in names:
        written = node.value if isinstance(node.value, str) else ""
        message = f"unknown task {show(node)}{did_you_mean(written, names)}" if names else "no task is registered"
        problems.append(Problem(node.origin.where, "task", message))
        return None
    return find_task(str(node.value)).load().Config


def _validate(
    model: type[WorkflowConfig], shape: Shape, tree: Node
) -> tuple[WorkflowConfig | None, Node, list[Finding], list[str]]:
    """Validates until no field of a former variant is left in the way."""
    notices: list[str] = []
    while True:
        try:
            return model.model_validate(validation_input(shape, tree)), tree, [], notices
        except ValidationError as error:
            errors = error.errors(include_url=False, include_input=False)
        found = findings(errors, shape, tree, top_keys=(EXTENDS,))
        dropped, notes = drop_former_variants(shape, tree, [finding.path for finding in found])
        if not dropped:
            return None, tree, found, notices
        notices += notes
        for path in dropped:
            tree = without(tree, path)


def _within(path: KeyPath, failed: set[KeyPath]) -> bool:
    return any(path[:depth] in failed for depth in range(len(path) + 1))


def _told(found: list[Finding], problems: list[Problem], displays: Sequence[str]) -> list[Problem]:
    """The problems by position; a hostile file can have many thousands, so that only the first ones are worded."""
    placed = [Problem(finding.origin.where, "", str(index)) for index, finding in enumerate(found)]
    by_place = sort_problems([*problems, *placed], displays)
    worded = {id(place): found[index] for index, place in enumerate(placed)}
    told = [worded[id(problem)].problem() if id(problem) in worded else problem for problem in by_place[:_MAX_PROBLEMS]]
    more = len(by_place) - len(told)
    return [*dict.fromkeys(told), *([Problem("", "", f"… and {more} more problems")] if more > 0 else [])]


def _origins(config: BaseModel, tree: Node) -> Iterator[tuple[str, Origin]]:
    """Where each key's value came from: what is written, then the defaults of what is not."""
    for path, node in walk(tree):
        if path:
            yield (
                dotted(path),
                node.position if isinstance(node.value, dict) and not node.origin.reference else node.origin,
            )
    yield from _defaults(config, tree, ())


def _defaults(value: Any, node: Node | None, path: KeyPath) -> Iterator[tuple[str, Origin]]:
    if isinstance(value, BaseModel):
        items: list[tuple[str | int, Any]] = []
        for name, info in type(value).model_fields.items():
            alias = info.validation_alias
            items.append((alias if isinstance(alias, str) else name, getattr(value, name)))
    elif isinstance(value, (list, tuple)) and node is not None:
        items = list(enumerate(value))
    elif isinstance(value, dict) and node is not None:
        items = list(value.items())
    else:
        return
    for key, inner in items:
        child = node.child(key) if node is not None else None
        if child is None:
            yield dotted((*path, key)), DEFAULT
        yield from _defaults(inner, child, (*path, key))
