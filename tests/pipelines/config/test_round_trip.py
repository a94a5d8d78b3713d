"""A configuration that is written loads again to an equal one."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ConfigDict

from pipelines.config import Section, dump_yaml
from pipelines.config.nodes import plain
from pipelines.config.reading import Source, read_text

AWKWARD = [
    *("1e-4", "on", "0123", "12:30:00", "2026-01-31", "null", "~", "", " a ", "a: b", "- a", "#a", "<<", "=", "0x1F"),
    *("${a}", r"\${a}", r"\\${", "${oc.env:HOME}", "${env:HOME}", "1_000", ".inf", "!!str", "&a", "*a", "%", "@", "`"),
    *("a\nb\n", "\ufeff", "true", "---", "...", "'", '"', "\t", "\x85", "\u2028"),
]
text = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(AWKWARD)
names = st.text(st.characters(codec="utf-8"), max_size=6) | st.sampled_from(
    ["1", "true", "null", "<<", "1.5", "a.b", ""]
)
attention = st.one_of(
    st.fixed_dictionaries(
        {"name": st.just("full"), "heads": st.integers(1, 64), "scale": st.none() | st.floats(1e-300, 1e300)}
    ),
    st.fixed_dictionaries({"name": st.just("window"), "window": st.lists(st.integers()), "shift": st.booleans()}),
    st.fixed_dictionaries({"name": st.just("agent"), "agents": st.integers(1, 10**30)}),
)
level = st.fixed_dictionaries(
    {"channels": st.integers(1)},
    optional={"attention": st.none() | attention.filter(lambda chosen: chosen["name"] != "agent")},
)
workflows = st.fixed_dictionaries(
    {
        "task": st.just("test/stand-in"),
        "name": st.from_regex(r"[a-z0-9-]+", fullmatch=True),
        "seed": st.integers(0),
        "data": st.fixed_dictionaries(
            {"path": st.text("abé ${}~.'\"#:", min_size=1, max_size=8).map(lambda name: f"/data/{name}")},
            optional={
                "table": st.none() | st.just("/t.csv"),
                "extra": st.lists(st.just("/x")),
                "classes": st.dictionaries(st.integers(), text, max_size=3),
                "tags": st.dictionaries(names, text, max_size=3),
                "part": st.sampled_from(["train", "test"]),
                "note": text,
            },
        ),
        "model": st.fixed_dictionaries(
            {"channels": st.lists(st.integers(1), min_size=1, max_size=3)},
            optional={
                "attention": attention,
                "levels": st.lists(level, max_size=2),
                "depth": st.integers() | st.just("auto") | st.lists(st.integers(), max_size=2),
            },
        ),
    },
    optional={
        "train": st.fixed_dictionaries(
            {},
            optional={
                "lr": st.floats(min_value=5e-324, allow_infinity=False, allow_nan=False),
                "epochs": st.integers(14, 1000),
                "ema": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
                "betas": st.tuples(st.floats(0, 1e308), st.floats(allow_infinity=False, allow_nan=False)),
            },
        )
    },
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflows)
def test_what_is_dumped_loads_to_an_equal_configuration(
    shared_workspace: Any, stand_in_task: type[Section], values: dict[str, Any]
) -> None:
    config = stand_in_task.model_validate(values)
    dumped = dump_yaml(config)
    resolved = shared_workspace.load(dumped)
    assert resolved.config == config
    assert dump_yaml(resolved.config) == dumped
    assert not resolved.notices


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(workflows)
def test_other_yaml_readers_see_the_same_values(stand_in_task: type[Section], values: dict[str, Any]) -> None:
    config = stand_in_task.model_validate(values)
    read = yaml.safe_load(dump_yaml(config))
    assert read["train"]["lr"] == config.train.lr  # type: ignore[attr-defined]
    assert list(read["train"]["betas"]) == list(config.train.betas)  # type: ignore[attr-defined]
    note = config.data.note  # type: ignore[attr-defined]
    if "${" not in note:
        assert read["data"]["note"] == note
    assert read["model"]["attention"] == json.loads(config.model.attention.model_dump_json())  # type: ignore[attr-defined]


class _Numbers(Section):
    model_config = ConfigDict(allow_inf_nan=True)
    values: tuple[float, ...] = ()
    pair: tuple[int, int] | None = None


@pytest.mark.parametrize("number", [1e-5, 1e22, 1e16, -0.0, 0.1, 5e-324, 1.7976931348623157e308, math.inf, -math.inf])
def test_numbers_keep_every_bit(number: float) -> None:
    node, _ = read_text(dump_yaml(_Numbers(values=(number,))), Source("f", Path()))
    assert node is not None
    read = plain(node)["values"][0]
    assert type(read) is float
    assert read.hex() == number.hex()


def test_none_and_tuples_are_plain_yaml() -> None:
    assert dump_yaml(_Numbers(pair=(1, 2))) == "values: []\npair: [1, 2]\n"
    assert dump_yaml(_Numbers()) == "values: []\npair: null\n"


def test_a_portable_dump_tells_nothing_of_the_machine(
    workspace: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("pipelines.fixtures.data_root", lambda: Path("/data/sets"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    text = workspace.valid.replace(
        "path: scans", "path: /data/sets/msd\n  table: ~/t.csv\n  extra: [/elsewhere/x.csv, '/a/\\${b}']"
    )
    config = workspace.load(text).config
    data = yaml.safe_load(dump_yaml(config, portable=True))["data"]
    assert data["path"] == "${env:PULVINAR_DATA}/msd"
    assert data["table"] == "~/t.csv"
    assert data["extra"][0] == "x.csv"
    assert workspace.load(dump_yaml(config, portable=True)).config.data.path == config.data.path
