"""Nested configurations become parameters that MLflow accepts."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.tracking.flatten import flatten, valid_key


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param({"train": {"lr": 1e-4, "ema": None}}, {"train.lr": "0.0001", "train.ema": "null"}, id="nested"),
        pytest.param({"a": [1, 2], "b": {}}, {"a": "[1, 2]", "b": "{}"}, id="lists and empty"),
        pytest.param({"a": True, "b": "text"}, {"a": "true", "b": "text"}, id="plain"),
        pytest.param({"weird (key)": 1}, {"weird _key_": "1"}, id="other characters"),
    ],
)
def test_values_become_dotted_text(values: dict[str, object], expected: dict[str, str]) -> None:
    assert flatten(values) == expected


def test_a_long_value_is_cut_and_says_so() -> None:
    (value,) = flatten({"a": "x" * 10_000}).values()
    assert len(value) == 6000
    assert value.endswith("(10000 characters; the whole value is in config.yaml)")


@settings(deadline=None)  # the first example imports MLflow
@given(st.text(max_size=400))
def test_every_key_is_one_that_mlflow_accepts(key: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    _validate_metric_name(valid_key(key))
