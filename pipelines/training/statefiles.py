"""Nested state (of optimizers, networks, counters) as tensors and JSON: nothing that could run code when it is read.

    pack({"step": 3, "m": {0: tensor}})
    →  tensors {"t0": tensor}
       JSON {"step": 3, "m": {"$items": [[0, {"$tensor": "t0"}]]}}

Values may be None, bool, int, float (also NaN and infinities), str, tensors, lists, tuples, and dicts whose keys are of
those plain kinds. Everything comes back with its type and its bits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

__all__ = ["pack", "unpack"]


def pack(state: Any) -> tuple[dict[str, Tensor], Any]:
    """Divides nested state into tensors by name, on the CPU and contiguous, and a value that JSON can hold.

    Raises:
        TypeError: A value is of a kind that cannot be kept; the message says where it is.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _pack(state, tensors, "state")


def unpack(tensors: Mapping[str, Tensor], document: Any) -> Any:
    """The inverse of `pack`. Raises `KeyError` when a tensor is missing."""
    if isinstance(document, list):
        return [unpack(tensors, item) for item in document]
    if not isinstance(document, dict):
        return document
    if len(document) == 1:
        (tag, value), *_ = document.items()
        if tag == "$tensor":
            return tensors[value]
        if tag == "$tuple":
            return tuple(unpack(tensors, item) for item in value)
        if tag == "$float":
            return float(value)
        if tag == "$items":
            return {unpack(tensors, key): unpack(tensors, item) for key, item in value}
    return {key: unpack(tensors, item) for key, item in document.items()}


def _pack(value: Any, tensors: dict[str, Tensor], where: str) -> Any:
    if isinstance(value, Tensor):
        name = f"t{len(tensors)}"
        # A copy always: tied weights share memory, which safetensors refuses, and a view would drag its base along.
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"$tensor": name}
    if isinstance(value, float) and not math.isfinite(value):
        return {"$float": repr(value)}
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list):
        return [_pack(item, tensors, f"{where}[{index}]") for index, item in enumerate(value)]
    if type(value) is tuple:
        return {"$tuple": [_pack(item, tensors, f"{where}[{index}]") for index, item in enumerate(value)]}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _pack(item, tensors, f"{where}.{key}") for key, item in value.items()}
        return {
            "$items": [
                [_pack(key, tensors, f"{where} key"), _pack(item, tensors, f"{where}.{key}")]
                for key, item in value.items()
            ]
        }
    raise TypeError(
        f"{where} is a {type(value).__name__}, which a checkpoint cannot hold; use tensors and plain values"
    )
