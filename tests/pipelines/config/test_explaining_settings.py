"""Each key can be asked for its value, where it came from, what it replaced and what is allowed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.config import explain
from pipelines.errors import ConfigurationError


@pytest.fixture
def resolved(workspace: Any) -> Any:
    base = workspace.valid + "  levels: [{channels: 4}]\ntrain:\n  lr: 1e-2\n"
    return workspace.load(
        "extends: base.yaml\ntrain: {lr: 1e-3, epochs: '${env:EPOCHS}'}\n",
        "train.lr=1e-4",
        "model.attention.name=window",
        base=base,
        env={"EPOCHS": "20"},
    )


def test_the_way_of_a_value_is_told_from_the_last_layer_to_the_default(resolved: Any) -> None:
    found = explain(resolved, "train.lr")
    assert (found.value, str(found.origin)) == (1e-4, "command line")
    assert [str(step) for step in found.overrode] == [
        "0.001 from w.yaml:2:13",
        "0.01 from base.yaml:9:7",
        "0.001 from default",
    ]
    assert found.expected == "a number above 0"
    assert found.description == "Learning rate at the top of the schedule."
    assert str(found) == (
        "train.lr = 0.0001\n  from     command line\n  instead of 0.001 from w.yaml:2:13\n"
        "  instead of 0.01 from base.yaml:9:7\n  instead of 0.001 from default\n"
        "  allowed  a number above 0\n  Learning rate at the top of the schedule."
    )


@pytest.mark.parametrize(
    ("key", "value", "origin", "expected"),
    [
        pytest.param("train.epochs", 20, "w.yaml:2:27 (${env:EPOCHS})", "a whole number from 1 to 1000", id="variable"),
        pytest.param("train.ema", None, "default", "a number above 0 and below 1 or null", id="default"),
        pytest.param(
            "model.attention.name", "window", "command line", "'full', 'window' or 'agent'", id="name of a variant"
        ),
        pytest.param("model.attention.window", [7, 7], "default", "a list of whole numbers", id="default of a variant"),
        pytest.param("model.attention.shift", True, "default", "true or false", id="field of a variant"),
        pytest.param("model.channels.1", 32, "base.yaml:6:18", "a whole number of at least 1", id="item"),
        pytest.param("model.levels.0.attention", None, "default", None, id="default in a list"),
        pytest.param("data.tags", {}, "default", "a mapping of names to texts", id="mapping"),
        pytest.param("train.betas.0", 0.9, "default", "a number of at least 0", id="item of a default"),
        pytest.param("train.precision", "auto", "default", "'auto', 'bf16' or 'fp32'", id="choice"),
    ],
)
def test_each_key_has_an_explanation(resolved: Any, key: str, value: Any, origin: str, expected: str | None) -> None:
    found = explain(resolved, key)
    assert found.value == value
    assert str(found.origin) == origin
    if expected is not None:
        assert found.expected == expected
    assert json.loads(json.dumps(found.as_dict()))["key"] == key


def test_a_section_is_explained_as_a_whole(resolved: Any) -> None:
    found = explain(resolved, "model.attention")
    assert found.value == {"name": "window", "heads": 1, "window": [7, 7], "shift": True}
    assert found.expected == "a section with a name (full, window or agent)"
    assert found.description == "Attention at the bottleneck."


def test_every_key_with_an_origin_can_be_explained(resolved: Any) -> None:
    for key, origin in resolved.origins.items():
        assert explain(resolved, key).origin == origin


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        pytest.param("train.lrr", "no such key; did you mean 'train.lr'?", id="misspelt"),
        pytest.param("trian.lr", "no such key; did you mean 'train.lr'?", id="misspelt section"),
        pytest.param("model.channels.9", "no such key", id="beyond a list"),
        pytest.param("train.lr.x", "no such key; did you mean 'train.lr'?", id="below a number"),
        pytest.param("", "no such key", id="nothing"),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest(resolved: Any, key: str, expected: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        explain(resolved, key)
    assert expected in str(caught.value)
