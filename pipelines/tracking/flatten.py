"""Nested plain values as MLflow parameters: dotted keys, and values within MLflow's limits."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["flatten", "valid_key"]

LONGEST_VALUE = 6000
LONGEST_KEY = 250


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """`{"train": {"lr": 0.1}}` → `{"train.lr": "0.1"}`. Lists stay one value, as JSON; long values are cut."""
    return {valid_key(key): _text(value) for key, value in _leaves(values, prefix)}


def valid_key(key: str) -> str:
    """A key that MLflow accepts: other characters become `_`, and `..` and a leading `/` are taken out."""
    cleaned = re.sub(r"[^\w.\- :/]", "_", key)
    parts = [part for part in cleaned.split("/") if part.strip(".")]
    return posixpath.join(*parts)[:LONGEST_KEY] if parts else "_"


def _leaves(values: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
    if len(text) <= LONGEST_VALUE:
        return text
    note = f" … ({len(text)} characters; the whole value is in config.yaml)"
    return text[: LONGEST_VALUE - len(note)] + note
