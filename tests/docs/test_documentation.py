"""What the documentation says exists: links, commands, options, settings, generated pages."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from typer.main import get_command

from pipelines.config.shapes import Shape
from pipelines.task import find_task, registered_tasks
from shared_attention import cards
from workflows.cli import app
from workflows.tasks import register_tasks

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("workflows/templates/*/*.md")]
)
HAND_WRITTEN = [page for page in PAGES if page.name not in ("attention-contract.md",)]

LINK = re.compile(r"!?\[[^\]]*\]\((?P<target>[^)\s]+)\)")
FENCE = re.compile(r"^```(?P<kind>\w*)\n(?P<body>.*?)^```", re.MULTILINE | re.DOTALL)
GENERATED = re.compile(r"<!-- generated:.*?<!-- end -->", re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
LAUNCHED = re.compile(r"^(?:torchrun|accelerate launch)\b.* -m workflows\.main ")
KEY = re.compile(r"(?P<key>[a-z_]+(?:\.[A-Za-z0-9_]+)+)(?P<value>[=:].*)?")
ENDINGS = ("yaml", "safetensors", "csv", "json", "py", "html")
"""`model.yaml` and the like look like keys."""
WRONG_ON_PURPOSE = {("modl", "x")}
"""Shown with the error that they give."""
DESCRIBED = ("infer.", "model.", "loss.")
"""Keys of a model's description, which `predict --set` takes."""


def each(pages: Sequence[Path]) -> list[Any]:
    return [pytest.param(page, id=page.relative_to(ROOT).as_posix()) for page in pages]


def text_of(page: Path) -> str:
    return GENERATED.sub("", page.read_text(encoding="utf-8"))


def typed(page: Path) -> Iterator[list[str]]:
    """Arguments of every `pulvinar …` that a page has a reader type."""
    for block in FENCE.finditer(text_of(page)):
        prompts = block["kind"] == "console"
        for line in block["body"].splitlines():
            if prompts and not line.startswith("$ "):
                continue
            command = LAUNCHED.sub("pulvinar ", line.removeprefix("$ ").strip())
            command = re.sub(r"^(?:srun|[A-Z_]+=\S+) ", "", command).partition(" || ")[0]
            if command.startswith("pulvinar ") and "[--" not in command:
                yield shlex.split(command.replace("…", "X"), comments=True)[1:]


def mentioned(page: Path) -> Iterator[list[str]]:
    """Arguments of every `pulvinar …` in running text."""
    for code in CODE.findall(FENCE.sub("", text_of(page))):
        if code.startswith("pulvinar "):
            yield shlex.split(code.replace("…", "X"))[1:]


def walk(arguments: Sequence[str]) -> tuple[Any, list[str]]:
    """The command of arguments, and what is left for it."""
    command: Any = get_command(app)
    rest = list(arguments)
    while rest and not rest[0].startswith("-") and hasattr(command, "commands"):
        assert rest[0] in command.commands, f"there is no command {rest[0]!r}"
        command = command.commands[rest.pop(0)]
    return command, rest


@pytest.fixture(scope="module")
def workflow() -> Shape:
    register_tasks()
    return Shape.of(find_task("medical/segmentation").load().Config)


@pytest.fixture(scope="module")
def workflows() -> list[Shape]:
    """The settings of every task."""
    register_tasks()
    return [Shape.of(entry.load().Config) for entry in registered_tasks()]


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("documentation_generator", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def accepts(shape: Shape | None, path: Sequence[str]) -> bool:
    """Whether a key exists in any variant of a settings model."""
    if shape is None:
        return False
    if not path:
        return True
    if shape.model is not None:
        return accepts(shape.fields().get(path[0]), path[1:])
    inner = [*shape.variants().values(), *shape.alternatives()]
    if inner:
        return any(accepts(choice, path) for choice in inner)
    return accepts(shape.item(path[0]), path[1:])


def keys_in(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield (*path, str(key))
            yield from keys_in(inner, (*path, str(key)))


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", each(PAGES))
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.finditer(FENCE.sub("", page.read_text(encoding="utf-8"))):
        target, _, anchor = link["target"].partition("#")
        if target.startswith(("http://", "https://", "mailto:")):
            continue
        place = (page.parent / target).resolve() if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            wrong.append(link["target"])
    assert not wrong


@pytest.mark.parametrize("page", each(PAGES))
def test_commands_that_are_typed_can_be_parsed(page: Path) -> None:
    for arguments in typed(page):
        command, rest = walk(arguments)
        if "--help" not in rest:
            command.make_context(" ".join(arguments), list(rest))


@pytest.mark.parametrize("page", each(PAGES))
def test_commands_and_options_that_are_mentioned_exist(page: Path) -> None:
    for arguments in mentioned(page):
        command, rest = walk(arguments)
        known = {spelling for parameter in command.params for spelling in parameter.opts} | {"--help", "-h"}
        unknown = [part for part in rest if part.startswith("--") and part.partition("=")[0] not in known]
        assert not unknown, f"{' '.join(arguments)}: {unknown}"


@pytest.mark.parametrize("page", each(HAND_WRITTEN))
def test_settings_exist(page: Path, workflows: list[Shape]) -> None:
    sections = {name for shape in workflows for name in shape.fields()}
    text = text_of(page)
    found: set[tuple[str, ...]] = set()
    for arguments in [*typed(page), *mentioned(page)]:
        found |= {tuple(part.partition("=")[0].split(".")) for part in arguments[1:] if re.match(r"[a-z][\w.]*=", part)}
    for code in CODE.findall(FENCE.sub("", text)):
        matched = KEY.fullmatch(code)
        if matched and matched["key"].split(".")[0] in sections:
            found.add(tuple(matched["key"].split(".")))
    for block in FENCE.finditer(text):
        content = yaml.safe_load(block["body"]) if block["kind"] == "yaml" else None
        if isinstance(content, dict) and content.keys() <= sections:
            found |= set(keys_in(content))
    found -= WRONG_ON_PURPOSE
    unknown = [key for key in sorted(found) if not any(accepts(shape, key) for shape in workflows)]
    assert not [".".join(key) for key in unknown if key[-1] not in ENDINGS]


def test_what_predict_may_set_is_in_the_description(workflow: Shape) -> None:
    page = ROOT / "docs" / "how-to" / "predict-scans.md"
    settings = re.findall(r"--set ([\w.]+)=", page.read_text(encoding="utf-8"))
    assert settings
    for setting in settings:
        assert setting.startswith(DESCRIBED)
        assert accepts(workflow, setting.split("."))


def test_generated_pages_are_up_to_date(generate: ModuleType) -> None:
    stale = [
        page.name
        for page, text in generate.expected().items()
        if not page.is_file() or page.read_text(encoding="utf-8") != text
    ]
    assert not stale, "python docs/generate.py"


@pytest.mark.parametrize("name", ["eca", "linear", "maxim_cross_gating", "window"])
def test_figures_show_what_the_mechanism_does(name: str, generate: ModuleType) -> None:
    assert not generate.attention_figures.refresh(name, write=False), "python docs/generate.py"


def test_every_mechanism_has_its_page_and_its_figure_and_nothing_else_has(generate: ModuleType) -> None:
    folder = generate.attention_pages.FOLDER
    found = {page.relative_to(folder).as_posix() for page in folder.rglob("*.*")}
    due = {f"{name}.md" for name in cards()} | {"index.md", "parity.csv"}
    drawn = [name for name, card in cards().items() if 2 in card.ranks]
    due |= {f"figures/{name}.{ending}" for name in drawn for ending in ("png", "csv")}
    assert found == due, "python docs/generate.py"
    assert all(picture.stat().st_size < 30_000 for picture in folder.glob("figures/*.png"))


def test_windows_are_seen_in_their_figure(generate: ModuleType) -> None:
    """The picture is of the mechanism: a token of a window of four sees sixteen tokens, around the border fewer."""
    figures = generate.attention_figures
    found = figures.parse((figures.FIGURES / "window.csv").read_text(encoding="utf-8"))
    seen = [sum(value > 0 for row in panel.values for value in row) for panel in found]
    assert seen == [16, 16, 16, 4, 16, 8]
    assert all(panel.values[panel.place[0]][panel.place[1]] > 0 for panel in found)


def test_parity_is_told_for_every_reference_at_hand(generate: ModuleType, golden_root: Path) -> None:
    told = {one.case: one for one in generate.attention_pages.parity()}
    due = {fixture for card in cards().values() for fixture in card.fixtures}
    at_hand = {f"{meta.parent.parent.name}/{meta.parent.name}" for meta in golden_root.glob("*/*/meta.json")}
    assert told.keys() == {case for case in at_hand if case.split("/")[0] in due}, "python docs/generate.py --parity"
    for one in told.values():
        assert one.mechanism in cards()
        assert one.difference < 2 * one.tolerance


def test_every_command_and_every_section_has_its_part(generate: ModuleType) -> None:
    commands, sections = (page.read_text(encoding="utf-8") for page in generate.PAGES[:2])
    assert set(re.findall(r"<!-- generated: command (.+?) -->", commands)) == dict(generate.commands()).keys()
    assert set(re.findall(r"<!-- generated: section (.+?) -->", sections)) == {"top", *generate.sections()}


def test_every_page_is_on_the_map() -> None:
    links = LINK.findall((ROOT / "docs" / "README.md").read_text(encoding="utf-8"))
    missing = {page.relative_to(ROOT / "docs").as_posix() for page in ROOT.glob("docs/*/*.md")} - set(links)
    assert not missing


def test_pictures_are_small_and_used() -> None:
    everything = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for picture in ROOT.glob("docs/images/*"):
        assert picture.stat().st_size < 150_000
        assert picture.name in everything
