"""Checkpoints: nested state comes back as it was, and a folder is whole or not there."""

from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pipelines.errors import EnvironmentProblem
from pipelines.training.checkpoints import Checkpoint, load_checkpoint, save_checkpoint
from pipelines.training.statefiles import pack, unpack

plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
dtypes = st.sampled_from(
    [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool]
)
tensors = st.builds(
    lambda shape, dtype: torch.arange(math.prod(shape)).reshape(shape).to(dtype),
    st.lists(st.integers(0, 3), max_size=3),
    dtypes,
)
states = st.recursive(
    plain | tensors,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(
            st.integers() | st.text(max_size=4) | st.sampled_from(["$tensor", "$tuple"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


def same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(left, right) for left, right in zip(one, other, strict=True))
    return one == other or (one != one and other != other)


@settings(max_examples=60, deadline=None)
@given(states)
def test_nested_state_comes_back_through_json_as_it_was(state: Any) -> None:
    parts, document = pack(state)
    assert same(unpack(parts, json.loads(json.dumps(document, allow_nan=False))), state)


def test_what_cannot_be_kept_is_named_by_its_place() -> None:
    with pytest.raises(TypeError, match=r"state\.a\[1\] is a set"):
        pack({"a": [1, {2}]})


def test_optimizer_state_comes_back(tmp_path: Path) -> None:
    network = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path / "last", Checkpoint(network.state_dict(), optimizer.state_dict()))
    back = load_checkpoint(tmp_path / "last")
    assert back is not None
    assert same(back.state, optimizer.state_dict())
    assert same(dict(sorted(back.weights.items())), dict(sorted(network.state_dict().items())))


def test_tied_and_strided_weights_are_kept(tmp_path: Path) -> None:
    weight = torch.arange(6.0).reshape(2, 3)
    save_checkpoint(tmp_path / "last", Checkpoint({"a": weight, "b": weight, "c": weight.T}, {}))
    back = load_checkpoint(tmp_path / "last")
    assert back is not None
    assert torch.equal(back.weights["c"], weight.T)


def test_no_pickle_is_written(tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "last", Checkpoint({"w": torch.ones(2)}, {"step": 1}))
    assert {path.suffix for path in (tmp_path / "last").iterdir()} == {".safetensors", ".json"}


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_failed_write_leaves_the_former_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, write: int
) -> None:
    folder = tmp_path / "last"
    save_checkpoint(folder, Checkpoint({"w": torch.zeros(2)}, {"step": 1}))
    written = 0
    sync = os.fsync

    def fail(handle: int) -> None:
        nonlocal written
        written += 1
        if written == write:
            raise OSError(number, os.strerror(number))
        sync(handle)

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(EnvironmentProblem, match="untouched") as caught:
        save_checkpoint(folder, Checkpoint({"w": torch.ones(2)}, {"step": 2}))
    assert ("full" in str(caught.value)) == (number != errno.EROFS)
    assert [path.name for path in tmp_path.iterdir()] == ["last"]
    back = load_checkpoint(folder)
    assert back is not None
    assert back.state == {"step": 1}


def test_a_real_full_disk_is_told_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full fails every write the way a full disk does."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    opened = Path.open
    monkeypatch.setattr(Path, "open", lambda self, *a, **k: opened(Path("/dev/full"), *a, **k))
    with pytest.raises(EnvironmentProblem, match="the disk is full"):
        save_checkpoint(tmp_path / "last", Checkpoint({"w": torch.ones(9000)}, {}))


def test_a_checkpoint_between_two_renames_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "last"
    save_checkpoint(folder, Checkpoint({"w": torch.zeros(2)}, {"step": 1}))
    folder.rename(tmp_path / ".last.previous")
    (tmp_path / ".last.abc.part").mkdir()
    back = load_checkpoint(folder)
    assert back is not None
    assert back.state == {"step": 1}
    save_checkpoint(folder, Checkpoint({"w": torch.zeros(2)}, {"step": 2}))
    assert [path.name for path in tmp_path.iterdir()] == ["last"]


def test_no_checkpoint_is_none(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path / "last") is None
