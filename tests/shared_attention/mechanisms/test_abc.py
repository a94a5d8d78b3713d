"""The causal memory of ABC in both forms against loops over queries and slots."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from shared_attention.testing import Subject

ORACLE = Path(__file__).parents[1] / "oracles" / "abc.py"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("form", ["published", "paper"])
def test_causal_memory_holds_what_came_before(form: str, masked: bool) -> None:
    spec = importlib.util.spec_from_file_location("oracle_of_abc_when_causal", ORACLE)
    assert spec is not None
    assert spec.loader is not None
    oracle = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(oracle)
    subject = Subject("abc", 1, {"causal": True, "form": form, "landmarks": 3})
    module, x = subject.module(torch.float64), subject.tokens(dtype=torch.float64, grid=(9,))
    mask = torch.rand(x.shape[:-1], generator=torch.Generator().manual_seed(4)) > 0.4 if masked else None
    torch.testing.assert_close(module(x, mask=mask), oracle.oracle(module, x, mask), rtol=1e-9, atol=1e-9)
