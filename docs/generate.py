"""Writes the generated parts of the reference pages: commands from the Typer app, settings from the pydantic models,
attention mechanisms from their cards.

    python docs/generate.py            # write
    python docs/generate.py --check    # exit with 1 where a page or a figure is out of date
    python docs/generate.py --parity   # hold the mechanisms against the references of PULVINAR_GOLDEN anew, and write

A page marks each generated part; what stands around it is written by hand:

    <!-- generated: command run -->
    ...
    <!-- end -->
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from typer import Typer
from typer.models import ArgumentInfo, OptionInfo

from pipelines.config.shapes import Shape
from pipelines.config.wording import expectation
from pipelines.fixtures import golden_root
from pipelines.task import find_task
from shared_attention import cards
from workflows.cli import app
from workflows.tasks import register_tasks

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS))  # the neighbours, also where this file is loaded by its path

import attention_figures  # noqa: E402
import attention_pages  # noqa: E402

__all__ = ["PAGES", "commands", "expected", "render", "sections"]

PAGES = (
    DOCS / "reference" / "command-line.md",
    DOCS / "reference" / "configuration.md",
    DOCS / "reference" / "reid-configuration.md",
    DOCS / "reference" / "bags.md",
    DOCS / "reference" / "survival.md",
    DOCS / "reference" / "skeletons.md",
    DOCS / "reference" / "clips.md",
    DOCS / "reference" / "pose.md",
    attention_pages.INDEX,
)
TASK = "medical/segmentation"

_PART = re.compile(r"(<!-- generated: (?P<kind>\w+) (?P<name>[^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
_TOLD_ELSEWHERE = dict.fromkeys(
    ("model.attention", "model.mixer"), "a section with a name, and the arguments of that mechanism"
)
"""Keys whose variants have a home of their own: a new mechanism changes no page."""


def render(page: str) -> str:
    """The page with every generated part as it should be now."""
    makers: dict[str, Callable[[str], str]] = {
        "command": _command_part,
        "section": _section_part,
        "attention": lambda name: attention_pages.table(),
    }
    return _PART.sub(lambda part: f"{part[1]}{makers[part['kind']](part['name'])}\n{part[4]}", page)


def commands(group: Typer = app, prefix: str = "") -> Iterator[tuple[str, Callable[..., Any]]]:
    """Name and function of every command, those of command groups as `track sync`."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield prefix + (command.name or command.callback.__name__), command.callback
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance, f"{prefix}{inner.name} ")


def sections() -> dict[str, Shape]:
    """Top-level keys of a workflow whose value is a section."""
    return {key: shape for key, shape in _workflow().fields().items() if shape.model or shape.discriminator}


def _workflow(task: str = TASK) -> Shape:
    register_tasks()
    return Shape.of(find_task(task).load().Config)


def _command_part(name: str) -> str:
    function = dict(commands())[name]
    arguments, options = [], []
    usage = ["pulvinar", name]
    for parameter in inspect.signature(function, eval_str=True).parameters.values():
        kind, info = get_args(parameter.annotation)[:2]
        required = parameter.default is inspect.Parameter.empty
        if isinstance(info, ArgumentInfo):
            shown = info.metavar or parameter.name.upper()
            shown += "..." if _is_list(kind) and not shown.endswith("...") else ""
            usage.append(shown if required else f"[{shown}]")
            arguments.append(f"| `{shown}` | | {_cell(info.help or '')} |")
            continue
        assert isinstance(info, OptionInfo)
        spellings = _spellings(info, parameter.name)
        value = "" if kind is bool else f" {info.metavar or _value_name(kind)}"
        if required:
            usage.append(f"{spellings[0]}{value}")
        default = "required" if required else _command_default(parameter.default, kind)
        names = ", ".join(f"`{spelling}{value}`" for spelling in spellings)
        repeated = " Can be repeated." if _is_list(kind) else ""
        options.append(f"| {names} | {default} | {_cell(info.help or '')}{repeated} |")
    usage.append("[OPTIONS]" if options else "")
    table = ["| | default | |", "|---|---|---|", *arguments, *options] if arguments or options else []
    text = inspect.getdoc(function) or ""
    return "\n".join([f"```\n{' '.join(usage).strip()}\n```", "", text, "", *table]).rstrip()


def _spellings(option: OptionInfo, name: str) -> tuple[str, ...]:
    """In `Annotated`, Typer keeps the first spelling where a default value would stand."""
    first = (option.default,) if isinstance(option.default, str) and option.default.startswith("-") else ()
    return (*first, *(option.param_decls or ())) or (f"--{name.replace('_', '-')}",)


def _is_list(kind: Any) -> bool:
    return any(get_origin(member) is list for member in (kind, *get_args(kind)))


def _value_name(kind: Any) -> str:
    members = [member for member in get_args(kind) if member is not type(None)]
    if get_origin(kind) in (Union, types.UnionType):
        return _value_name(members[0])
    if get_origin(kind) is Literal:
        return "\\|".join(map(str, members))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "\\|".join(str(member.value) for member in kind)
    return {int: "NUMBER", float: "NUMBER", Path: "PATH"}.get(kind, "TEXT")


def _command_default(value: Any, kind: Any) -> str:
    return "" if value is None or kind is bool else f"`{value}`"


def _section_part(name: str) -> str:
    """`top`, a section of a segmentation workflow, or one of another task's (`reid/retrieval:model`)."""
    task, _, name = name.rpartition(":")
    fields = _workflow(task or TASK).fields()
    if name == "top":
        rows = [_row(key, shape, shape.default) for key, shape in fields.items() if key not in sections()]
        return "\n".join(_table(rows))
    return "\n".join(_described(name, fields[name])).strip()


def _described(key: str, shape: Shape, default: Any = None) -> list[str]:
    """A section as a table; of a section with variants, a table for each."""
    if not shape.discriminator:
        return _table_of(key, shape, skip="", default=default)
    lines = []
    for name, variant in shape.variants().items():
        lines += [f"**`{key}.{shape.discriminator}: {name}`** · {_doc(variant.model)}", ""]
        lines += [*_table_of(key, variant, skip=shape.discriminator, default=None), ""]
    return lines


def _table_of(key: str, shape: Shape, *, skip: str, default: Any) -> list[str]:
    """The keys of a section; `default` is the section as its parent has it, where that is not the plain one."""
    rows, below = [], []
    for name, field in shape.fields().items():
        dotted = f"{key}.{name}"
        value = getattr(default, name, PydanticUndefined) if default is not None else field.default
        if name == skip:
            continue
        if field.kind == "model":
            below += ["", f"**`{dotted}`** · {_doc(field.model)}", ""]
            below += _described(dotted, field, value if isinstance(value, BaseModel) else None)
            continue
        rows.append(_row(dotted, field, value))
        if field.discriminator and dotted not in _TOLD_ELSEWHERE:
            below += ["", *_described(dotted, field)]
    return (_table(rows) if rows else ["No settings of its own."]) + below


def _table(rows: list[str]) -> list[str]:
    return ["| key | allowed | default | meaning |", "|---|---|---|---|", *rows]


def _row(key: str, shape: Shape, default: Any) -> str:
    allowed = re.sub(r"(matches) (\S+)", r"\1 `\2`", _TOLD_ELSEWHERE.get(key) or expectation(shape))
    meaning = shape.field.description if shape.field is not None else ""
    return f"| `{key}` | {_cell(allowed)} | {_default(shape, default)} | {_cell(meaning or '')} |"


def _default(shape: Shape, value: Any) -> str:
    if value is PydanticUndefined:
        return "**required**"
    if shape.default_tag is not None:
        return f"`{shape.default_tag}`"
    return f"`{_plain(value)}`"


def _plain(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_plain, value))}]"
    return str(value)


def _doc(model: type[BaseModel] | None) -> str:
    return _cell((model.__doc__ if model is not None else "") or "")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def expected() -> dict[Path, str]:
    """Every page as it should be now."""
    return {page: render(page.read_text(encoding="utf-8")) for page in PAGES} | attention_pages.pages()


def main(arguments: list[str]) -> int:
    """Writes pages and figures, or with `--check` says which are out of date."""
    check = "--check" in arguments
    if "--parity" in arguments:
        golden = golden_root()
        if golden is None:
            raise SystemExit("there are no references here: set PULVINAR_GOLDEN to a folder that holds them")
        attention_pages.measure_parity(golden)
    stale = []
    for page, text in expected().items():
        if page.is_file() and page.read_text(encoding="utf-8") == text:
            continue
        stale.append(page.name)
        if not check:
            page.write_text(text, encoding="utf-8")
    drawn = [name for name, card in cards().items() if 2 in card.ranks]
    stale += [f"{name}.png" for name in drawn if attention_figures.refresh(name, write=not check)]
    orphans = [page for page in attention_pages.FOLDER.rglob("*.*") if page.stem not in {*cards(), "index", "parity"}]
    for orphan in orphans:
        stale.append(orphan.name)
        if not check:
            orphan.unlink()
    for name in stale:
        sys.stderr.write(f"{name} is out of date: python docs/generate.py\n" if check else f"{name} written\n")
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
