"""A variant chosen in a later layer drops what the former one left behind, and says so."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(
    ("written", "overrides", "attention", "notices"),
    [
        pytest.param(
            "{name: full, heads: 8}", ["name=window"], {"name": "window", "heads": 1},
            ["model.attention.name: full → window; dropped heads=8"], id="value that the new one refuses",
        ),
        pytest.param("{name: full, heads: 2}", ["name=window"], {"name": "window", "heads": 2}, [], id="value taken"),
        pytest.param(
            "{name: window, window: [4, 4], shift: false}", ["name=agent"], {"name": "agent", "agents": 49},
            ["model.attention.name: window → agent; dropped window=[4, 4], shift=false"], id="fields it does not have",
        ),
        pytest.param(
            "{name: window, shift: false}", ["agents=9", "name=agent"], {"name": "agent", "agents": 9},
            ["model.attention.name: window → agent; dropped shift=false"], id="arguments of the new one, in any order",
        ),
        pytest.param(
            "{heads: 8}", ["name=window"], {"name": "window", "heads": 1},
            ["model.attention.name: full → window; dropped heads=8"], id="former one is the default",
        ),
        pytest.param("{name: window, shift: false}", ["name=window"], {"shift": False}, [], id="no change"),
        pytest.param(
            "{name: window, window: [4, x]}", ["name=agent"], {"name": "agent"},
            ["model.attention.name: window → agent; dropped window=[4, 'x']"], id="wrong value of the former one",
        ),
        pytest.param(
            "{name: windo, shift: false}", ["name=agent"], {"name": "agent"},
            ["model.attention.name: windo → agent; dropped shift=false"], id="former one that there is not",
        ),
    ],
)  # fmt: skip
def test_leftovers_are_dropped(
    workspace: Any, written: str, overrides: list[str], attention: dict[str, Any], notices: list[str]
) -> None:
    text = workspace.valid + f"  attention: {written}\n"
    resolved = workspace.load(text, *(f"model.attention.{override}" for override in overrides))
    found = resolved.config.model.attention.model_dump()
    assert {key: found[key] for key in attention} == attention
    assert list(resolved.notices) == notices
    assert set(found) >= {key.rpartition(".")[2] for key in resolved.origins if key.startswith("model.attention.")}


def test_a_file_changes_what_it_extends(workspace: Any) -> None:
    base = workspace.valid + "  attention:\n    name: full\n    scale: 0.5\n    heads: 4\n"
    resolved = workspace.load("extends: base.yaml\nmodel:\n  attention: {name: window}\n", base=base)
    assert resolved.config.model.attention.heads == 4
    assert resolved.notices == ("model.attention.name: full → window; dropped scale=0.5",)
    assert "model.attention.scale" not in resolved.origins


def test_a_variant_named_by_a_variable_changes_too(workspace: Any) -> None:
    base = workspace.valid + "  attention: {name: full, scale: 0.5}\n"
    resolved = workspace.load(
        "extends: base.yaml\nmodel: {attention: {name: '${env:ATTENTION,window}'}}\n",
        base=base,
        env={"ATTENTION": "agent"},
    )
    assert resolved.config.model.attention.name == "agent"
    assert resolved.notices == ("model.attention.name: full → agent; dropped scale=0.5",)


def test_variants_in_lists_change_too(workspace: Any) -> None:
    text = workspace.valid + "  levels:\n    - channels: 4\n      attention: {name: full, scale: 2}\n"
    resolved = workspace.load(text, "model.levels.0.attention.name=window")
    assert resolved.config.model.levels[0].attention.name == "window"
    assert resolved.notices == ("model.levels.0.attention.name: full → window; dropped scale=2",)


def test_what_was_changed_back_is_judged_by_the_last_change(workspace: Any) -> None:
    base = workspace.valid + "  attention: {name: full, scale: 2}\n"
    middle = "extends: base.yaml\nmodel: {attention: {name: window, shift: false}}\n"
    resolved = workspace.load("extends: middle.yaml\nmodel: {attention: {name: full}}\n", base=base, middle=middle)
    assert resolved.config.model.attention.scale == 2
    assert resolved.notices == ("model.attention.name: window → full; dropped shift=false",)


@pytest.mark.parametrize(
    ("written", "overrides", "expected"),
    [
        pytest.param("{name: window, scale: 1}", [], "w.yaml:7:29  model.attention.scale: unknown key", id="same file"),
        pytest.param(
            "{name: full}",
            ["name=window", "scale=1"],
            "command line  model.attention.scale: unknown key",
            id="same overrides",
        ),
        pytest.param(
            "{name: full}", ["name=window", "heads=3"], "model.attention.heads: expected 1, 2 or 4, got 3", id="value"
        ),
        pytest.param("{name: window}", ["scale=1"], "command line  model.attention.scale: unknown key", id="no change"),
        pytest.param("{name: full, scale: 1}", ["name=windo"], "unknown name 'windo'", id="to nothing"),
    ],
)
def test_what_the_same_layer_wrote_is_an_error(
    workspace: Any, written: str, overrides: list[str], expected: str
) -> None:
    text = workspace.valid + f"  attention: {written}\n"
    (problem,) = workspace.problems(text, *(f"model.attention.{override}" for override in overrides))
    assert expected in problem
