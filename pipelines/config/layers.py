"""The layers of a workflow: the files it extends, itself, and the overrides of the command line.

`extends:` names one file or a list of files, relative to the file that says so. Later ones win over earlier ones,
and the file itself wins over them all.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pipelines.config.merging import is_reference, merge, put
from pipelines.config.nodes import COMMAND_LINE, Node, Origin, dotted, show
from pipelines.config.reading import MAX_BYTES, ReadingError, Source, decode, read_text
from pipelines.config.spelling import did_you_mean, nearest
from pipelines.errors import ConfigurationError, Problem

__all__ = ["EXTENDS", "Layers", "apply_overrides", "expand_home", "read_layers", "sort_problems"]

EXTENDS = "extends"
_MAX_LAYERS = 64
_INDEX = re.compile(r"\[(\d+)\]")


@dataclass
class Layers:
    """All files of a workflow, merged.

    Attributes:
        tree: The merged tree, without `extends`.
        sources: The files, in the order they were merged.
        displays: Their names for people, in the order problems are told: the workflow first.
        count: How many layers there are.
        problems: What was found wrong so far.
    """

    tree: Node
    sources: tuple[Path, ...]
    displays: tuple[str, ...]
    count: int
    problems: list[Problem]


def read_layers(path: Path, cwd: Path) -> Layers:
    """Reads a workflow file and what it extends.

    Raises:
        ConfigurationError: A file is missing, cannot be read, or is not YAML; holds the problems of all files.
    """
    reader = _Reader(main=path, cwd=cwd)
    reader.read(path, (), None)
    if reader.fatal:
        raise ConfigurationError(sort_problems(reader.fatal + reader.problems, reader.displays))
    tree = reader.layers[0]
    for layer in reader.layers[1:]:
        tree = merge(tree, layer, reader.problems)
    return Layers(
        tree, tuple(reader.sources), tuple(dict.fromkeys(reader.displays)), len(reader.layers), problems=reader.problems
    )


def apply_overrides(layers: Layers, overrides: Sequence[str], cwd: Path) -> Node:
    """The tree with `key=value` texts laid over it, in their order; they are one layer."""
    tree = layers.tree
    source = Source("", cwd, layers.count)
    for override in overrides:
        key, equals, text = override.partition("=")
        key = key.strip()
        path = tuple(_INDEX.sub(r".\1", key).split("."))
        problem = _override_problem(override, key, equals, path)
        if problem:
            layers.problems.append(Problem(COMMAND_LINE.where, "", problem))
            continue
        try:
            node, problems = read_text(text, source)
        except ReadingError as error:
            hint = f"{error.problem.message} (in {show(override)})"
            layers.problems.append(Problem(COMMAND_LINE.where, dotted(path), hint))
            continue
        if node is None and text.strip():
            message = f"{show(text)} is a comment in YAML; put it in quotes"
            layers.problems.append(Problem(COMMAND_LINE.where, dotted(path), message))
            continue
        if problems:
            found = [
                replace(problem, key=dotted((*path, problem.key)) if problem.key else dotted(path))
                for problem in problems
            ]
            layers.problems.extend(found)
            continue
        tree = put(tree, path, node or Node(None, COMMAND_LINE, cwd, layer=layers.count), layers.problems)
    return tree


def _override_problem(override: str, key: str, equals: str, path: tuple[str, ...]) -> str:
    if not equals:
        return f"{show(override)} is not an override; write key=value, for example train.lr=1e-4"
    if not key:
        return f"{show(override)} has no key; write key=value, for example train.lr=1e-4"
    if not all(path):
        return f"{show(key)} has an empty part; keys are separated by single dots, as in train.lr"
    if any("\ud800" <= character <= "\udfff" for character in key):
        return f"{show(key)} holds a character that is not Unicode"
    if path[0] == EXTENDS:
        return "'extends' belongs in a workflow file; on the command line, override single keys"
    if len(path) > 40:
        return f"{show(key)} is nested deeper than 40 levels"
    return ""


def sort_problems(problems: Sequence[Problem], displays: Sequence[str]) -> list[Problem]:
    """Problems by file (the workflow first, the command line last), line and column, each once."""
    order = {display: index for index, display in enumerate(displays)}

    def position(problem: Problem) -> tuple[int, int, int]:
        file, _, rest = problem.where.rpartition(":")
        file, _, line = file.rpartition(":")
        if file in order and line.isdigit() and rest.isdigit():
            return order[file], int(line), int(rest)
        return (order[problem.where], 0, 0) if problem.where in order else (len(order), 0, 0)

    return sorted(dict.fromkeys(problems), key=position)


@dataclass
class _Reader:
    main: Path
    cwd: Path
    layers: list[Node] = field(default_factory=list)
    sources: list[Path] = field(default_factory=list)
    displays: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    fatal: list[Problem] = field(default_factory=list)

    def read(self, path: Path, chain: tuple[Path, ...], extended_at: Origin | None) -> None:
        display = self.display(path)
        where = extended_at.where if extended_at else ""
        key = EXTENDS if extended_at else ""
        real = Path(os.path.realpath(path))
        if real in [Path(os.path.realpath(earlier)) for earlier in chain]:
            circle = " → ".join(self.display(file) for file in (*chain, path))
            self.fatal.append(Problem(where, key, f"files extend one another in a circle: {circle}"))
            return
        if len(chain) >= _MAX_LAYERS or len(self.layers) >= _MAX_LAYERS:
            if not any("more than" in problem.message for problem in self.fatal):
                self.fatal.append(Problem(where, key, f"more than {_MAX_LAYERS} files are extended"))
            return
        self.displays.append(display)
        try:
            data = _read_bytes(path, display)
        except OSError as error:
            self.fatal.append(Problem(where, key, _unreadable(path, display, error)))
            return
        except ReadingError as error:
            self.fatal.append(replace(error.problem, where=where, key=key))
            return
        try:
            node, problems = read_text(decode(data, display), Source(display, path.parent))
        except ReadingError as error:
            self.fatal.append(error.problem)
            return
        self.problems.extend(problems)
        if node is None or not isinstance(node.value, dict) or not node.value:
            self.fatal.append(_not_a_workflow(node, display))
            return
        extends = node.value.get(EXTENDS)
        for extended in self.extended(extends) if extends else ():
            self.read(path.parent / expand_home(str(extended.value)), (*chain, path), extended.origin)
        kept = {name: child for name, child in node.value.items() if name != EXTENDS}
        self.layers.append(_in_layer(replace(node, value=kept), len(self.layers)))
        self.sources.append(path)

    def extended(self, node: Node) -> list[Node]:
        """The files that `extends:` names, less those that are not the name of a file."""
        named = node.value if isinstance(node.value, list) else [node]
        good = []
        for item in named:
            assert isinstance(item, Node)
            if not isinstance(item.value, str) or not item.value:
                message = f"expected a file, or a list of files, relative to this one, got {show(item)}"
            elif "\0" in item.value:
                message = f"expected a file, got {show(item)}"
            elif is_reference(item.value):
                message = f"references are refused here, since files are read first; write the path, got {show(item)}"
            else:
                good.append(item)
                continue
            self.fatal.append(Problem(item.origin.where, EXTENDS, message))
        return good

    def display(self, path: Path) -> str:
        """A file as people see it: relative to the current folder, else to the workflow's; never absolute."""
        absolute = os.path.abspath(self.cwd / path)
        shown = os.path.relpath(absolute, os.path.abspath(self.cwd))
        if shown.startswith(".."):
            shown = os.path.relpath(absolute, os.path.dirname(os.path.abspath(self.cwd / self.main)))
        if shown.startswith(os.path.join("..", "..", "..")):
            shown = os.path.basename(absolute)
        return dotted((shown,))


def expand_home(path: str | os.PathLike[str]) -> Path:
    """The path with `~` expanded, where there is such a home folder."""
    return Path(os.path.expanduser(path))


def _in_layer(node: Node, layer: int) -> Node:
    """The same tree, of another layer. Anchored parts stay shared."""
    moved: dict[int, Node] = {}

    def move(node: Node) -> Node:
        if id(node) not in moved:
            value = node.value
            if isinstance(value, dict):
                value = {key: move(child) for key, child in value.items()}
            elif isinstance(value, list):
                value = [move(child) for child in value]
            moved[id(node)] = replace(node, value=value, layer=layer)
        return moved[id(node)]

    return move(node)


def _read_bytes(path: Path, display: str) -> bytes:
    """The bytes of a regular file that is not too large. Raises `OSError`, `ReadingError`."""
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        files = sorted(file.name for file in path.iterdir() if file.suffix in (".yaml", ".yml"))
        held = f"; it holds {', '.join(files[:5])}" if files else ""
        raise ReadingError(Problem("", "", f"{display!r} is a folder; name a workflow file{held}"))
    if not stat.S_ISREG(status.st_mode):
        raise ReadingError(Problem("", "", f"{display!r} is not a regular file"))
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1) if status.st_size <= MAX_BYTES else b""
    if status.st_size > MAX_BYTES or len(data) > MAX_BYTES:
        size = f"{max(status.st_size, len(data)) / 2**20:.1f} MiB"
        raise ReadingError(
            Problem("", "", f"{display!r} has {size}; a workflow file has at most {MAX_BYTES >> 20} MiB")
        )
    return data


def _unreadable(path: Path, display: str, error: OSError) -> str:
    if not isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return f"cannot read {display!r}: {error.strerror or error}"
    folder = path.parent
    if not folder.is_dir():
        return f"no file {display!r}: its folder does not exist"
    names = sorted(file.name for file in folder.iterdir() if file.suffix in (".yaml", ".yml") and file.is_file())
    near = nearest(path.name, names) or next((name for name in names if Path(name).stem == path.stem), None)
    if near:
        return f"no file {display!r}; did you mean {os.path.join(os.path.dirname(display), near)!r}?"
    return f"no file {display!r}{did_you_mean(path.name, names).replace('allowed', 'in that folder')}"


def _not_a_workflow(node: Node | None, display: str) -> Problem:
    if node is None or node.value is None or node.value == {}:
        return Problem(f"{display}:1:1", "", "is empty; a workflow holds at least task, name and data")
    kind = "a list" if isinstance(node.value, list) else show(node)
    return Problem(node.origin.where, "", f"expected keys with values at the top, as in 'task: …', got {kind}")
