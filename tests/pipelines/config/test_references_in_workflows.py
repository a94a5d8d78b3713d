"""`${…}` stands for keys and environment variables, and for nothing else."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from pipelines.config.dump import _escape
from pipelines.config.interpolation import InterpolationError, Key, Variable, parse
from pipelines.config.nodes import DEFAULT, node_from_plain, plain
from pipelines.config.references import resolve_references


def _resolve(tree: dict[str, Any], env: dict[str, str] | None = None) -> Any:
    return resolve_references(node_from_plain(tree, DEFAULT, Path()), None, env or {}, Path())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        pytest.param("${a.b}", (Key("a.b"),), id="key"),
        pytest.param("${ a }", (Key("a"),), id="blanks"),
        pytest.param("${..a}", (Key("..a"),), id="relative"),
        pytest.param("${a[0].b}", (Key("a[0].b"),), id="brackets"),
        pytest.param("x ${a} y", ("x ", Key("a"), " y"), id="in text"),
        pytest.param("$${a}", ("$", Key("a")), id="dollar before"),
        pytest.param("${env:A}/${env:B}", (Variable("A"), "/", Variable("B")), id="two variables"),
        pytest.param("${env:A, ~/my data/é }", (Variable("A", ("~/my data/é",)),), id="any path as a default"),
        pytest.param("${env:A,C:/x}", (Variable("A", ("C:/x",)),), id="colon in a default"),
        pytest.param("${env:A,}", (Variable("A", ("",)),), id="empty default"),
        pytest.param("${env:A,null}", (Variable("A", (None,)),), id="null default"),
        pytest.param("${env:A,'a, b'}", (Variable("A", ("a, b",)),), id="quoted default"),
        pytest.param("${env:A,007}", (Variable("A", ("007",)),), id="digits stay as written"),
        pytest.param("${env:A,${b.c}/d}", (Variable("A", (Key("b.c"), "/d")),), id="reference in a default"),
        pytest.param("${env:A,${env:B,c}}", (Variable("A", (Variable("B", ("c",)),)),), id="variable in a default"),
        pytest.param(r"\${a}", ("${a}",), id="escaped"),
        pytest.param(r"\\${a}", ("\\", Key("a")), id="escaped backslash"),
        pytest.param(r"\${a} ${b}", ("${a} ", Key("b")), id="escaped and not"),
    ],
)
def test_references_are_taken_apart(text: str, parts: tuple[Any, ...]) -> None:
    assert parse(text).parts == parts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("${oc.env:HOME}", "${oc.env:…} is refused", id="oc.env"),
        pytest.param("${oc.decode:'1'}", "${oc.decode:…} is refused", id="oc.decode"),
        pytest.param("${oc.create:{a: 1}}", "${oc.create:…} is refused", id="oc.create"),
        pytest.param("${eval:'1+1'}", "${eval:…} is refused", id="eval"),
        pytest.param("${:x}", "not a reference that is understood", id="no resolver"),
        pytest.param("${env:${env:A}}", "expected ${env:NAME}", id="variable named by a variable"),
        pytest.param("${a.${b}}", "cannot be a part of another reference's key", id="key named by a key"),
        pytest.param("${${env:A}:x}", "refused", id="resolver named by a variable"),
        pytest.param("${env:A,b,c}", "put a default with commas in quotes", id="two defaults"),
        pytest.param("${env:A,[1]}", "a default is one plain value", id="list as default"),
        pytest.param("${env:1A}", "expected ${env:NAME}", id="no name"),
        pytest.param("${env:}", "expected ${env:NAME}", id="nothing"),
        pytest.param("${", "not a reference that is understood", id="open"),
        pytest.param("${}", "not a reference that is understood", id="empty"),
        pytest.param("${a", "not a reference that is understood", id="not closed"),
        pytest.param("${" * 20 + "}" * 20, "more than 16 references", id="deep"),
        pytest.param("${a}" + "x" * 5000, "at most 4096 characters", id="long"),
        pytest.param("\0${'", "NUL", id="NUL"),
    ],
)
def test_other_references_are_refused(text: str, expected: str) -> None:
    with pytest.raises(InterpolationError) as caught:
        parse(text)
    assert expected in str(caught.value)


_leaves = st.sampled_from(
    [
        "${a}",
        "${b}",
        "${c.d}",
        "x${a}",
        "${c.d}/${b}",
        "${.d}",
        "${..a}",
        r"\${a}",
        r"\\${b}",
        "a$b",
        "plain",
        3,
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.fixed_dictionaries({"a": _leaves, "b": _leaves, "c": st.fixed_dictionaries({"d": _leaves, "e": _leaves})}))
def test_references_resolve_as_omegaconf_resolves_them(tree: dict[str, Any]) -> None:
    config = OmegaConf.create(tree)
    try:
        expected = OmegaConf.to_container(config, resolve=True)
    except (OmegaConfBaseException, RecursionError):
        assert _resolve(tree).problems
        return
    resolved = _resolve(tree)
    assert not resolved.problems
    assert plain(resolved.tree) == expected


_pieces = st.lists(st.sampled_from(["${", "}", "\\", "$", "{", "a", "b:", ",", "'", '"', "."]), max_size=8).map("".join)
with_references = st.tuples(_pieces, _pieces).map(lambda ends: "${".join(ends))


@settings(deadline=None)
@given(with_references)
def test_any_text_is_parsed_or_refused_in_words(text: str) -> None:
    with contextlib.suppress(InterpolationError):
        assert parse(text).parts


@settings(deadline=None)
@given(with_references)
def test_escaped_text_is_read_as_it_was(text: str) -> None:
    assert "".join(parse(_escape(text)).parts) == text  # type: ignore[arg-type]


def test_a_whole_reference_keeps_the_kind_of_its_value(workspace: Any) -> None:
    text = (
        workspace.valid
        + "train:\n  epochs: ${model.channels.0}\n  lr: ${env:LR,1e-4}\n  deterministic: ${env:DET,false}\n"
    )
    resolved = workspace.load(text, env={"DET": "true"})
    assert resolved.config.train.epochs == 16
    assert resolved.config.train.lr == 1e-4
    assert resolved.config.train.deterministic is True
    assert str(resolved.origins["train.lr"]) == "w.yaml:9:7 (${env:LR,1e-4})"


def test_sections_and_lists_can_be_referred_to(workspace: Any) -> None:
    text = (
        workspace.valid
        + "  attention: {name: window, heads: 2}\n  levels:\n    - {channels: 1, attention: '${model.attention}'}\n"
    )
    assert workspace.load(text).config.model.levels[0].attention.heads == 2


def test_a_key_that_is_not_written_has_its_default(workspace: Any) -> None:
    text = workspace.valid + "train: {ema: '${train.lr}'}\n"
    assert workspace.load(text).config.train.ema == 1e-3
    text = workspace.valid + "train: {epochs: '${model.attention.heads}'}\n"
    assert workspace.load(text).config.train.epochs == 4


def test_references_see_overrides(workspace: Any) -> None:
    text = workspace.valid + "train: {epochs: '${seed}'}\n"
    assert workspace.load(text, "seed=7").config.train.epochs == 7


@pytest.mark.parametrize(
    ("value", "field", "expected"),
    [
        pytest.param("12", "train.epochs", 12, id="whole number"),
        pytest.param("1e-3", "train.lr", 1e-3, id="number"),
        pytest.param("2", "model.attention.heads", 2, id="literal number"),
        pytest.param("null", "train.ema", None, id="null"),
        pytest.param("0123", "data.note", "0123", id="text of digits"),
        pytest.param("true", "data.note", "true", id="text of a boolean"),
        pytest.param("", "data.note", "", id="empty text"),
    ],
)
def test_a_variable_is_read_as_the_setting_needs_it(workspace: Any, value: str, field: str, expected: Any) -> None:
    found = workspace.load(
        workspace.valid, "model.attention.name=window", f"{field}='${{env:VALUE}}'", env={"VALUE": value}
    ).config
    for part in field.split("."):
        found = getattr(found, part)
    assert found == expected
    assert type(found) is type(expected)


def test_what_a_variable_holds_is_never_read_as_a_reference(workspace: Any) -> None:
    text = workspace.valid.replace(
        "path: scans", "path: scans\n  note: ${env:EVIL}\n  tags: {a: '${data.note}', b: 'x${.a}'}"
    )
    data = workspace.load(text, env={"EVIL": "${env:SECRET}", "SECRET": "s3cret"}).config.data
    assert data.note == "${env:SECRET}"
    assert data.tags == {"a": "${env:SECRET}", "b": "x${env:SECRET}"}


def test_what_a_variable_holds_stays_data_inside_a_section_that_is_referred_to() -> None:
    tree = {"a": {"x": "${env:EVIL}"}, "b": "${a}", "c": "${b.x}", "d": "y${b.x}"}
    resolved = _resolve(tree, {"EVIL": "${env:SECRET}", "SECRET": "s3cret"})
    assert plain(resolved.tree)["c"] == "${env:SECRET}"
    assert plain(resolved.tree)["d"] == "y${env:SECRET}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "seed: ${env:RUN_SEDE}\n",
            "w.yaml:7:7  seed: the environment variable RUN_SEDE is not set (did you mean RUN_SEED?); "
            "set it, or give a default: ${env:RUN_SEDE,default}",
            id="variable",
        ),
        pytest.param(
            "seed: ${train.epoch}\n", "seed: ${train.epoch} refers to a key that is not there", id="no such key"
        ),
        pytest.param("seed: ${nam}\n", "refers to a key that is not there; did you mean ${name}?", id="near key"),
        pytest.param("seed: ${seed}\n", "w.yaml:7:7  seed: ${seed} refers to itself", id="itself"),
        pytest.param(
            "train: {lr: '${train}'}\n", "train.lr: ${train} refers to a section that it stands in", id="around"
        ),
        pytest.param("seed: ${.....a}\n", "goes above the top", id="above the top"),
        pytest.param("seed: x${model}\n", "a list or a section cannot be put inside text", id="section in text"),
        pytest.param("seed: ${oc.env:HOME}\n", "seed: ${oc.env:…} is refused", id="other resolver"),
        pytest.param("task: ${env:TASK}\n", "duplicate", id="duplicate"),
    ],
)
def test_a_reference_without_a_value_says_why(workspace: Any, text: str, expected: str) -> None:
    (problem,) = workspace.problems(workspace.valid + text, env={"RUN_SEED": "1"})
    assert expected in problem


def test_the_task_is_never_a_reference(workspace: Any) -> None:
    (problem,) = workspace.problems("task: ${env:TASK}\n", env={"TASK": "test/stand-in"})
    assert problem.startswith("w.yaml:1:7  task: references are refused here")


def test_circles_show_their_way(workspace: Any) -> None:
    text = workspace.valid + "seed: ${train.epochs}\ntrain: {epochs: '${train.lr}', lr: '${seed}'}\n"
    problems = workspace.problems(text)
    assert problems[0] == "w.yaml:7:7  seed: references go in a circle: seed → train.epochs → train.lr → seed"
    assert len(problems) == 3


@pytest.mark.parametrize(
    "tree",
    [
        pytest.param({"x0": "y" * 100, **{f"x{i + 1}": f"${{x{i}}}${{x{i}}}" for i in range(40)}}, id="doubling text"),
        pytest.param({"x0": [1] * 9, **{f"x{i + 1}": [f"${{x{i}}}"] * 9 for i in range(40)}}, id="nine-fold lists"),
        pytest.param({f"x{i}": f"${{x{i + 1}}}" for i in range(5000)} | {"x5000": 1}, id="long chain"),
        pytest.param({"big": [1] * 30_000, "l": ["${big}"] * 3000}, id="a large list many times"),
        pytest.param({f"x{i}": "${missing" for i in range(3000)}, id="thousands that are broken"),
        pytest.param({f"x{i}": "${missing}" for i in range(3000)}, id="thousands that are missing"),
        pytest.param({f"x{i}": "${env:A,'b'}" for i in range(3000)}, id="thousands through the grammar"),
    ],
)
def test_references_cannot_grow_without_end(tree: dict[str, Any]) -> None:
    started = time.perf_counter()
    assert _resolve(tree).problems
    assert time.perf_counter() - started < 10


def test_the_data_folder_has_a_default(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.fixtures.data_root", lambda: Path("/data/root"))
    text = workspace.valid.replace(
        "path: scans", "path: ${env:PULVINAR_DATA}/msd\n  table: ${env:PULVINAR_DATA,here}/t.csv"
    )
    data = workspace.load(text).config.data
    assert (data.path, data.table) == (Path("/data/root/msd"), Path("/data/root/t.csv"))
    assert workspace.load(text, env={"PULVINAR_DATA": "/other"}).config.data.path == Path("/other/msd")
    monkeypatch.setattr("pipelines.fixtures.data_root", lambda: None)
    assert any("PULVINAR_DATA is not set" in problem for problem in workspace.problems(text))
