"""The JSON Schema accepts what loads, and marks what does not."""

from __future__ import annotations

import json
from typing import Any

import pytest
import yaml

from pipelines.config import dump_yaml, json_schema

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator(stand_in_task: Any) -> Any:
    schema = json.loads(json.dumps(json_schema()))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


GOOD = "task: test/stand-in\nname: x\ndata: {path: scans}\nmodel: {channels: [16]}\n"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        pytest.param(GOOD, True, id="whole"),
        pytest.param(GOOD + "train: {lr: '${env:LR,1e-3}', epochs: '${seed}'}\n", True, id="references for numbers"),
        pytest.param(GOOD + "train: ${env:A}\n", True, id="reference for a section"),
        pytest.param(GOOD.replace("[16]", "['${seed}', 2]"), True, id="reference for an item"),
        pytest.param(GOOD.replace("[16]", "[16], attention: {name: window, window: [4, 4]}"), True, id="variant"),
        pytest.param(GOOD.replace("[16]", "[16], attention: {heads: 4}"), True, id="variant without a name"),
        pytest.param("extends: base.yaml\n", True, id="only extends"),
        pytest.param(
            "extends: [a.yaml, b.yaml]\ntask: test/stand-in\nmodel: {attention: {name: window}}\n", True, id="part"
        ),
        pytest.param(GOOD + "train: {lr: fast}\n", False, id="wrong value"),
        pytest.param(GOOD + "train: {epochs: 0}\n", False, id="bound"),
        pytest.param(GOOD + "zeta: 1\n", False, id="unknown key"),
        pytest.param(GOOD.replace("[16]", "[16], attention: {name: windo}"), False, id="unknown variant"),
        pytest.param(GOOD.replace("[16]", "[16], attention: {name: full, window: [1]}"), False, id="field of another"),
        pytest.param(GOOD.replace("model: {channels: [16]}\n", ""), False, id="missing section"),
        pytest.param(GOOD.replace("test/stand-in", "test/other"), False, id="unknown task"),
        pytest.param("name: x\n", False, id="no task"),
        pytest.param("extends: a.yaml\ntask: test/stand-in\ntrain: {lr: fast}\n", False, id="wrong value in a part"),
        pytest.param("extends: 3\n", False, id="wrong extends"),
        pytest.param("- a\n", False, id="list"),
    ],
)
def test_the_schema_takes_what_loads(validator: Any, text: str, valid: bool) -> None:
    errors = [error.message for error in validator.iter_errors(yaml.safe_load(text))]
    assert bool(errors) is not valid, errors


def test_a_dumped_configuration_fits_the_schema(validator: Any, workspace: Any) -> None:
    config = workspace.load(workspace.valid, "model.attention.name=agent", "train.lr=1").config
    validator.validate(yaml.safe_load(dump_yaml(config)))


def test_editors_find_descriptions_and_choices(stand_in_task: Any) -> None:
    schema = json_schema()
    train = schema["$defs"]["test/stand-in.Train"]["properties"]
    assert train["lr"]["description"] == "Learning rate at the top of the schedule."
    assert train["precision"]["anyOf"][0]["enum"] == ["auto", "bf16", "fp32"]
    assert schema["properties"]["task"]["enum"] == ["test/stand-in"]
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
