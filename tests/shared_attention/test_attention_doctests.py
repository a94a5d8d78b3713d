"""The examples in the docstrings of the attention core run and show what they say."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

import shared_attention

PARTS = [one.name for one in pkgutil.walk_packages(shared_attention.__path__, "shared_attention.")]


@pytest.mark.parametrize("name", ["shared_attention", *PARTS])
def test_examples_of_a_module_run(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.failed == 0
    public = not name.startswith("shared_attention.adapters") and not hasattr(importlib.import_module(name), "__path__")
    if public and name not in ("shared_attention.parity", "shared_attention.bench.child"):
        assert result.attempted > 0, f"{name} shows no example"
