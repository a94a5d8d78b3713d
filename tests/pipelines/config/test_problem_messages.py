"""Each wrong value is told at its place, in words, with what is allowed."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.errors import ConfigurationError


def test_all_problems_of_a_file_come_at_once_and_in_order(workspace: Any) -> None:
    text = """\
task: test/stand-in
name: x
data:
  path: scans
model:
  channels: [16, 32]
  attention:
    name: window
    windw: 7
train:
  precision: auto
  precision: fp32
  lr:   fast
  epochs: 0
"""
    assert workspace.problems(text, name="hippocampus.yaml") == [
        "hippocampus.yaml:9:5  model.attention.windw: unknown key; did you mean 'window'? "
        "(allowed: heads, window, shift)",
        "hippocampus.yaml:12:3  train.precision: duplicate key; it stands at hippocampus.yaml:11:3 already",
        "hippocampus.yaml:13:9  train.lr: expected a number above 0, got 'fast'",
        "hippocampus.yaml:14:11  train.epochs: expected a whole number from 1 to 1000, got 0",
    ]


WRONG_VALUES = """
train.lr=0 | expected a number above 0, got 0
train.lr=true | expected a number above 0, got true
train.lr=.nan | expected a number above 0, got nan
train.lr=1e999 | expected a number above 0, got inf
train.lr=[1] | expected a number above 0, got [1]
train.lr=null | expected a number above 0, got null
train.ema=1 | expected a number above 0 and below 1 or null, got 1
train.epochs=2.5 | expected a whole number from 1 to 1000, got 2.5
train.epochs=true | expected a whole number from 1 to 1000, got true
train.epochs=123e20 | expected a whole number from 1 to 1000, got 1.23e+22
train.deterministic=maybe | expected true or false, got 'maybe'
train.deterministic=2 | expected true or false, got 2
train.precision=bf61 | expected 'auto', 'bf16' or 'fp32', got 'bf61'; did you mean 'bf16'?
train.precision=16 | expected 'auto', 'bf16' or 'fp32', got 16
train.betas=[0.9] | expected a list of 2: a number of at least 0, a number, got [0.9]
train.betas=[1, 2, 3] | expected a list of 2: a number of at least 0, a number, got [1, 2, 3]
train.betas=0.9 | expected a list of 2: a number of at least 0, a number, got 0.9
train=5 | expected a section with keys like lr, epochs, precision, got 5
train=[1] | expected a section with keys like lr, epochs, precision, got [1]
model.channels=[] | expected a list of 1 or more whole numbers of at least 1, got []
model.channels=16 | expected a list of 1 or more whole numbers of at least 1, got 16
model.depth=deep | expected a whole number, 'auto' or a list of whole numbers, got 'deep'
model.depth=auot | got 'auot'; did you mean 'auto'?
model.depth.x=1 | expected a whole number, 'auto' or a list of whole numbers, got {x: 1}
model.attention=window | expected a section with a name (full, window or agent), got 'window'
model.attention.heads=0 | expected a whole number above 0 and of at most 64, got 0
data.part=tset | expected 'train' or 'test', got 'tset'; did you mean 'test'?
data.note=5 | expected text, got 5; put it in quotes
data.note=true | expected text, got true; put it in quotes
data.note=["\\e[31m"] | expected text, got ['\\x1b[31m']
data.classes={left: 1} | expected a whole number as a key, got 'left'
data.tags=[a] | expected a mapping of names to texts, got ['a']
name=A b | expected text that matches ^[a-z0-9-]+$, got 'A b'
"""


@pytest.mark.parametrize("row", WRONG_VALUES.strip().splitlines())
def test_a_wrong_value_is_told_in_words(workspace: Any, row: str) -> None:
    override, _, expected = row.partition(" | ")
    problems = workspace.problems(workspace.valid, override)
    assert any(expected in problem for problem in problems), problems


@pytest.mark.parametrize("digits", [90, 200, 9999])
def test_numbers_with_many_digits_are_shortened(workspace: Any, digits: int) -> None:
    (problem,) = workspace.problems(workspace.valid, f"train.epochs={'9' * digits}")
    assert "expected a whole number from 1 to 1000, got " in problem
    assert len(problem) < 180


def test_items_of_unions_and_lists_are_told_where_they_are(workspace: Any) -> None:
    text = (
        workspace.valid
        + "  depth: [1, two, 3]\n  levels:\n    - channels: 0\n    - {channels: 1, attention: {name: full, hds: 1}}\n"
        + "train: {betas: [-1, 2]}\n"
    )
    assert workspace.problems(text) == [
        "w.yaml:7:14  model.depth.1: expected a whole number, got 'two'",
        "w.yaml:9:17  model.levels.0.channels: expected a whole number of at least 1, got 0",
        "w.yaml:10:45  model.levels.1.attention.hds: unknown key; did you mean 'heads'? (allowed: heads, scale)",
        "w.yaml:11:17  train.betas.0: expected a number of at least 0, got -1",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "  attention:\n    name: windo\n",
            "w.yaml:8:11  model.attention.name: unknown name 'windo'; did you mean 'window'? "
            "(allowed: full, window, agent)",
            id="misspelt",
        ),
        pytest.param(
            "  attention: {name: 3}\n",
            "w.yaml:7:21  model.attention.name: expected one of full, window, agent, got 3",
            id="number",
        ),
        pytest.param(
            "  attention: {name: full, shift: true}\n",
            "w.yaml:7:27  model.attention.shift: unknown key; it belongs to window (allowed: heads, scale)",
            id="key of another variant",
        ),
        pytest.param(
            "  levels: [{channels: 1, attention: {heads: 1}}]\n",
            "w.yaml:7:26  model.levels.0.attention.name: missing; say which (allowed: full, window)",
            id="missing",
        ),
    ],
)
def test_variants_are_told_by_name(workspace: Any, text: str, expected: str) -> None:
    assert workspace.problems(workspace.valid + text) == [expected]


def test_a_mapping_without_a_name_is_the_default_variant(workspace: Any) -> None:
    assert workspace.load(workspace.valid, "model.attention.heads=8").config.model.attention.heads == 8


def test_missing_keys_are_told_at_their_section(workspace: Any) -> None:
    problems = workspace.problems("# a comment\ntask: test/stand-in\n\nmodel:\n  attention: {}\ndata:\n  note: x\n")
    assert problems == [
        "w.yaml:2:1  name: missing; expected text that matches ^[a-z0-9-]+$",
        "w.yaml:4:1  model.channels: missing; expected a list of 1 or more whole numbers of at least 1",
        "w.yaml:6:1  data.path: missing; expected a path",
    ]


def test_a_rule_over_several_keys_is_told_at_its_section(workspace: Any) -> None:
    text = workspace.valid + "train:\n  lr: 1\n  epochs: 13\n"
    assert workspace.problems(text) == ["w.yaml:7:1  train: 13 epochs with any lr are refused here; use 12 or 14"]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("trian", "unknown key; did you mean 'train'?", id="swapped letters"),
        pytest.param("ep", "unknown key", id="short"),
        pytest.param("epochs", "unknown key; it belongs in 'train'", id="key of another section"),
        pytest.param("train.lr", "unknown key; write train: with lr: below it", id="dotted key"),
        pytest.param("extend", "unknown key; did you mean 'extends'?", id="extends"),
        pytest.param("Seed", "unknown key; did you mean 'seed'?", id="capital"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest(workspace: Any, key: str, expected: str) -> None:
    (problem,) = workspace.problems(workspace.valid + f"{key}: 1\n")
    assert problem.startswith(f"w.yaml:7:1  {key}: {expected}")
    assert problem.endswith("(allowed: task, name, seed, data, model, train, extends)")


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        pytest.param(
            "task: test/standin\n", "task: unknown task 'test/standin'; did you mean 'test/stand-in'?", id="near"
        ),
        pytest.param("task: 3\n", "task: unknown task 3 (allowed: test/stand-in)", id="number"),
        pytest.param("task: [a]\n", "task: unknown task ['a'] (allowed: test/stand-in)", id="list"),
        pytest.param("name: x\n", "task: missing; say which task this is (allowed: test/stand-in)", id="missing"),
        pytest.param("task:\n", "task: missing; say which task this is", id="empty"),
    ],
)
def test_the_task_is_found_or_told(workspace: Any, task: str, expected: str) -> None:
    (problem,) = workspace.problems(task)
    assert expected in problem
    assert problem.startswith("w.yaml:1:")


def test_an_empty_section_is_its_defaults(workspace: Any) -> None:
    assert workspace.load(workspace.valid + "train:\n").config.train.epochs == 10
    resolved = workspace.load("extends: base.yaml\ntrain:\n", base=workspace.valid + "train: {epochs: 3}\n")
    assert resolved.config.train.epochs == 3


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abnme", min_size=1, max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
keys = st.sampled_from(
    [
        *(
            "name",
            "seed",
            "data",
            "model",
            "train",
            "data.path",
            "data.extra",
            "data.classes",
            "data.tags",
            "data.part",
        ),
        *("model.channels", "model.attention", "model.attention.name", "model.levels", "model.depth", "train.lr"),
        *("train.betas", "train.precision", "train.deterministic"),
    ]
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(keys, anything, max_size=4))
def test_any_value_at_all_is_taken_or_refused_in_words(shared_workspace: Any, values: dict[str, Any]) -> None:
    overrides = [
        f"{key}={yaml.safe_dump(value, default_flow_style=True, width=10**6)}" for key, value in values.items()
    ]
    overrides = [override.removesuffix("\n").removesuffix("\n...") for override in overrides]
    try:
        shared_workspace.load(shared_workspace.valid, *overrides)
    except ConfigurationError as error:
        for problem in error.problems:
            assert re.fullmatch(r"w\.yaml:\d+:\d+|command line|", problem.where)
            assert problem.message
            assert "Input should" not in problem.message
            assert "tuple[" not in problem.key
