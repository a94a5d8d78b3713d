"""Files extend files, overrides come last, and each value knows which layer it is from."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import ConfigTypeError

from pipelines.config import load_workflow
from pipelines.config.merging import merge
from pipelines.config.nodes import DEFAULT, node_from_plain, plain
from pipelines.errors import Problem

trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=4)
    ),
    max_leaves=12,
)
mappings = st.dictionaries(st.text("abc", min_size=1, max_size=2), trees, max_size=4)


@settings(max_examples=60, deadline=None)
@given(mappings, mappings)
def test_layers_merge_as_omegaconf_merges(base: dict[str, Any], over: dict[str, Any]) -> None:
    problems: list[Problem] = []
    merged = merge(node_from_plain(base, DEFAULT, Path()), node_from_plain(over, DEFAULT, Path()), problems)
    try:
        expected = OmegaConf.merge(OmegaConf.create(base), OmegaConf.create(over))
    except ConfigTypeError:  # it refuses a list over a mapping, and a mapping over a list; here the later one wins
        assume(False)
    assert plain(merged) == OmegaConf.to_container(expected)
    assert not problems


def test_later_files_win_and_the_file_itself_wins_over_them(workspace: Any) -> None:
    resolved = workspace.load(
        "extends: [one.yaml, two.yaml]\ntrain: {epochs: 3}\n",
        one=workspace.valid + "train: {lr: 1, epochs: 1}\nseed: 1\n",
        two="train: {lr: 2, epochs: 2}\n",
    )
    assert (resolved.config.train.lr, resolved.config.train.epochs, resolved.config.seed) == (2.0, 3, 1)
    assert str(resolved.origins["train.lr"]) == "two.yaml:1:13"
    assert str(resolved.origins["train.epochs"]) == "w.yaml:2:17"
    assert str(resolved.origins["seed"]) == "one.yaml:8:7"
    assert str(resolved.origins["train.precision"]) == "default"
    assert [path.name for path in resolved.sources] == ["one.yaml", "two.yaml", "w.yaml"]


def test_every_key_of_the_configuration_has_an_origin(workspace: Any) -> None:
    resolved = workspace.load(workspace.valid + "train: {lr: 1}\n", "seed=4")

    def keys(value: Any, prefix: str = "") -> set[str]:
        if not isinstance(value, dict):
            return set()
        return {prefix + key for key in value} | set().union(
            *(keys(v, f"{prefix}{k}.") for k, v in value.items()), set()
        )

    assert keys(resolved.config.model_dump()) <= resolved.origins.keys()
    assert resolved.origins["seed"].kind == "command line"


def test_files_extend_relative_to_themselves(workspace: Any) -> None:
    workspace.write("a/base.yaml", "extends: ../b/root.yaml\nseed: 2\n")
    workspace.write("b/root.yaml", workspace.valid)
    resolved = workspace.load("extends: a/base.yaml\n")
    assert resolved.config.seed == 2
    assert str(resolved.origins["name"]) == "b/root.yaml:2:7"
    assert resolved.config.data.path == workspace.folder / "b" / "scans"


def test_one_file_may_be_extended_twice(workspace: Any) -> None:
    resolved = workspace.load(
        "extends: [left.yaml, right.yaml]\n",
        left="extends: root.yaml\nseed: 1\n",
        right="extends: root.yaml\n",
        root=workspace.valid + "seed: 9\n",
    )
    assert resolved.config.seed == 9


@pytest.mark.parametrize(
    ("text", "files", "expected"),
    [
        pytest.param(
            "extends: a.yaml\n",
            {"a": "extends: b.yaml\n", "b": "\nextends: [a.yaml]\n"},
            "b.yaml:2:11  extends: files extend one another in a circle: w.yaml → a.yaml → b.yaml → a.yaml",
            id="circle",
        ),
        pytest.param(
            "extends: w.yaml\n", {}, "w.yaml:1:10  extends: files extend one another in a circle", id="itself"
        ),
        pytest.param(
            "extends: baze.yaml\n",
            {"base": "a: 1\n"},
            "extends: no file 'baze.yaml'; did you mean 'base.yaml'?",
            id="missing",
        ),
        pytest.param("extends: 3\n", {}, "w.yaml:1:10  extends: expected a file, or a list of files", id="number"),
        pytest.param("extends: [[a]]\n", {}, "extends: expected a file, or a list of files", id="list of lists"),
        pytest.param("extends: {a: b}\n", {}, "extends: expected a file, or a list of files", id="mapping"),
        pytest.param(
            "extends: '${env:X}.yaml'\n", {}, "w.yaml:1:10  extends: references are refused here", id="reference"
        ),
        pytest.param("extends: .\n", {}, "w.yaml:1:10  extends: '.' is a folder", id="folder"),
        pytest.param("extends: a.yaml\n", {"a": "x: [1\n"}, "a.yaml:2:1  not valid YAML", id="broken file"),
        pytest.param("extends: a.yaml\n", {"a": ""}, "a.yaml:1:1  is empty", id="empty file"),
    ],
)
def test_what_cannot_be_extended_is_told_where_it_is_written(
    workspace: Any, text: str, files: dict[str, str], expected: str
) -> None:
    (problem,) = workspace.problems(text, **files)
    assert expected in problem


def test_files_that_extend_one_another_without_end_are_refused_quickly(workspace: Any) -> None:
    files = {f"f{index}": f"extends: [f{index + 1}.yaml, f{index + 1}.yaml]\n" for index in range(60)}
    started = time.perf_counter()
    problems = workspace.problems("extends: f0.yaml\n", **files, f60=workspace.valid)
    assert any("more than 64 files" in problem for problem in problems)
    assert time.perf_counter() - started < 5


def test_problems_of_all_files_come_together_by_place(workspace: Any) -> None:
    problems = workspace.problems(
        "extends: base.yaml\nzeta: 1\ntrain:\n  lr: fast\n",
        "train.epoch=3",
        base=workspace.valid + "alpha: 1\ntrain:\n  epochs: 0\n",
    )
    assert [problem.split("  ")[0] for problem in problems] == [
        "w.yaml:2:1",
        "w.yaml:4:7",
        "base.yaml:7:1",
        "base.yaml:9:11",
        "command line",
    ]


def test_a_file_elsewhere_is_never_told_by_its_absolute_path(
    workspace: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = workspace.write("flows/w.yaml", workspace.valid + "extends: ../base.yaml\n")
    workspace.write("base.yaml", "seed: 3\n")
    resolved = load_workflow(path, env={}, cwd=tmp_path_factory.mktemp("elsewhere"))
    assert str(resolved.origins["name"]) == "w.yaml:2:7"
    assert str(resolved.origins["seed"]) == "../base.yaml:1:7"


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        pytest.param("train.lr=1e-4", "train.lr", 1e-4, id="number"),
        pytest.param("model.channels=[16,32]", "model.channels", (16, 32), id="list"),
        pytest.param("model.channels.1=64", "model.channels", (16, 64), id="item"),
        pytest.param("model.channels[0]=64", "model.channels", (64, 32), id="item in brackets"),
        pytest.param('data.note="a b"', "data.note", "a b", id="quoted text"),
        pytest.param("data.note=a=b", "data.note", "a=b", id="equals sign in the value"),
        pytest.param("data.note='#1'", "data.note", "#1", id="quoted hash"),
        pytest.param("data.note=on", "data.note", "on", id="on is text"),
        pytest.param("data.note='3'", "data.note", "3", id="quoted number"),
        pytest.param("train.ema=null", "train.ema", None, id="null"),
        pytest.param("train.ema=", "train.ema", None, id="nothing is null"),
        pytest.param("train={lr: 2, epochs: 5}", "train.lr", 2.0, id="section"),
        pytest.param("model.attention.name=window", "model.attention.shift", True, id="variant"),
        pytest.param("data.classes={1: left}", "data.classes", {1: "left"}, id="mapping"),
        pytest.param("data.classes.2=right", "data.classes", {2: "right"}, id="key of a mapping"),
        pytest.param(" train.lr =2", "train.lr", 2.0, id="blanks around the key"),
        pytest.param("train.epochs=1e2", "train.epochs", 100, id="whole number as an exponent"),
    ],
)
def test_overrides_are_yaml(workspace: Any, override: str, key: str, value: Any) -> None:
    resolved = workspace.load(workspace.valid, override)
    found = resolved.config
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value
    assert type(found) is type(value)


def test_overrides_reach_into_lists_of_sections(workspace: Any) -> None:
    text = workspace.valid + "  levels:\n    - {channels: 8}\n    - {channels: 16, attention: {name: full}}\n"
    config = workspace.load(text, "model.levels.0.channels=4", "model.levels.1.attention.heads=2").config
    assert [level.channels for level in config.model.levels] == [4, 16]
    assert config.model.levels[1].attention.heads == 2


def test_the_last_override_of_a_key_wins(workspace: Any) -> None:
    assert workspace.load(workspace.valid, "seed=1", "seed=2").config.seed == 2


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        pytest.param("train.lr", "command line  'train.lr' is not an override; write key=value", id="no equals sign"),
        pytest.param("=3", "command line  '=3' has no key", id="no key"),
        pytest.param("", "command line  '' is not an override", id="empty"),
        pytest.param("train..lr=3", "command line  'train..lr' has an empty part", id="empty part"),
        pytest.param("train.=3", "command line  'train.' has an empty part", id="empty end"),
        pytest.param("train.lrr=3", "command line  train.lrr: unknown key; did you mean 'lr'?", id="unknown key"),
        pytest.param("lr=3", "command line  lr: unknown key; it belongs in 'train'", id="key of another section"),
        pytest.param(
            "train.lr=fast", "command line  train.lr: expected a number above 0, got 'fast'", id="wrong value"
        ),
        pytest.param("seed=[1", "command line  seed: not valid YAML", id="broken value"),
        pytest.param(
            "data.note=#1", "command line  data.note: '#1' is a comment in YAML; put it in quotes", id="comment"
        ),
        pytest.param("seed=!!python/name:os.system", "command line  seed: the tag", id="tag"),
        pytest.param("train={a: 1, a: 2}", "command line  train.a: duplicate key", id="duplicate"),
        pytest.param("extends=a.yaml", "command line  'extends' belongs in a workflow file", id="extends"),
        pytest.param(
            "model.channels.7=3", "model.channels is a list with 2 items; use an index from 0 to 1", id="beyond"
        ),
        pytest.param("model.channels.-1=3", "model.channels is a list with 2 items", id="negative index"),
        pytest.param("model.levels.0.channels=3", "model.levels: expected a list of sections", id="item of nothing"),
        pytest.param("a" + ".a" * 60 + "=1", "nested deeper than 40 levels", id="deep key"),
        pytest.param("seed=" + "[" * 5000, "nested deeper than 40 levels", id="deep value"),
        pytest.param("data.note=a\0b", "holds a control character", id="NUL"),
        pytest.param("--seed=3", "command line  --seed: unknown key; did you mean 'seed'?", id="an option"),
    ],
)
def test_a_wrong_override_is_told_on_the_command_line(workspace: Any, override: str, expected: str) -> None:
    (problem,) = workspace.problems(workspace.valid, override)
    assert expected in problem
    assert problem.startswith("command line")


def test_keys_cannot_be_added_to_a_reference(workspace: Any) -> None:
    text = (
        workspace.valid
        + "  attention: ${model.levels.0.attention}\n  levels: [{channels: 1, attention: {name: full}}]\n"
    )
    (problem,) = workspace.problems(text, "model.attention.heads=3")
    assert problem.startswith("command line  model.attention: cannot add keys here: it is the reference")


settings_of_a_run = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.integers(0, 99),
        "train.lr": st.floats(1e-9, 1e9),
        "train.epochs": st.integers(1, 12),
        "train.ema": st.none() | st.floats(0.1, 0.9),
        "model.channels": st.lists(st.integers(1, 99), min_size=1, max_size=4),
        "model.attention.name": st.sampled_from(["full", "window", "agent"]),
        "data.note": st.text(st.characters(codec="utf-8", exclude_categories=["C", "Zl", "Zp"]), max_size=20).filter(
            lambda t: "${" not in t
        ),
        "data.tags": st.dictionaries(st.text("ab1", min_size=1), st.text("xy0 ", max_size=4), max_size=3),
    },
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(settings_of_a_run)
def test_overriding_equals_writing_it_in_the_file(shared_workspace: Any, values: dict[str, Any]) -> None:
    overrides = [f"{key}={_flow(value)}" for key, value in values.items()]
    base = yaml.safe_load(shared_workspace.valid)
    for key, value in values.items():
        *sections, last = key.split(".")
        here = base
        for section in sections:
            here = here.setdefault(section, {})
        here[last] = value
    written = shared_workspace.load(_flow(base), name="written.yaml").config
    assert shared_workspace.load(shared_workspace.valid, *overrides).config == written


def _flow(value: Any) -> str:
    """A value as JSON, which is YAML."""
    return json.dumps(value, ensure_ascii=False)


def test_loading_takes_less_than_fifty_milliseconds(workspace: Any) -> None:
    text = (
        workspace.valid
        + "  levels:\n"
        + "".join(
            f"    - channels: {index + 1}\n      attention:\n        name: window\n        heads: 4\n"
            for index in range(20)
        )
        + "train:\n  lr: ${env:LR,1e-3}\n  epochs: ${model.channels.0}\n"
    )
    workspace.load(text)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        workspace.load(text, "train.lr=1e-4", "model.attention.name=window")
        seconds.append(time.perf_counter() - started)
    assert min(seconds) < 0.05
