"""Parity with published code: the references at hand, and what the checker says when something does not fit."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from shared_attention import cards
from shared_attention.parity import verify
from shared_attention.published import Given, adapter_classes, load_published


def test_every_reference_that_a_card_names_is_met(golden_root: Path) -> None:
    due = {fixture for one in cards().values() for fixture in one.fixtures}
    due |= {fixture for fixture, adapter in adapter_classes().items() if "/" in adapter.mechanism}  # networks elsewhere
    verdicts = [one for one in verify(golden_root) if one.mechanism]
    assert [one for one in verdicts if not one.good] == []
    assert {one.case.split("/")[0] for one in verdicts} == due


@pytest.fixture
def golden(tmp_path: Path) -> Callable[..., Path]:
    """Writes a reference of Swin's window attention, computed by our own module, with parts changed at will."""

    def write(
        *, name: str = "swin_window_attention", constructor: dict | None = None, state: dict | None = None, **outputs
    ) -> Path:
        generator = torch.Generator().manual_seed(0)
        entries = {
            "qkv.weight": torch.randn(24, 8, generator=generator),
            "qkv.bias": torch.randn(24, generator=generator),
            "proj.weight": torch.randn(8, 8, generator=generator),
            "proj.bias": torch.randn(8, generator=generator),
            "relative_position_bias_table": torch.randn(15, 2, generator=generator),
            "relative_position_index": torch.zeros(6, 6, dtype=torch.int64),
        }
        x = torch.randn(4, 6, 8, generator=generator)
        arguments = {"dim": 8, "window_size": [2, 3], "num_heads": 2}
        module = load_published("swin_window_attention", arguments, entries)
        with torch.no_grad():
            out = module.attend_windows(x[:, None], bias=module.position())[:, 0]
        folder = tmp_path / name / "a"
        folder.mkdir(parents=True)
        (folder / "meta.json").write_text(json.dumps({"constructor": arguments | (constructor or {})}))
        save_file(entries | (state or {}), folder / "state.safetensors")
        save_file({"in.x": x, "out": out} | outputs, folder / "io.safetensors")
        return tmp_path

    return write


def test_equal_is_said_with_the_difference(golden: Callable[..., Path]) -> None:
    (verdict,) = verify(golden())
    assert (verdict.case, verdict.mechanism, verdict.status) == ("swin_window_attention/a", "window", "equal")
    assert verdict.good
    assert verdict.difference is not None
    assert verdict.difference < 1e-6
    assert json.loads(json.dumps(verdict.as_dict()))["good"] is True


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        pytest.param({"out": torch.zeros(4, 6, 8)}, "different", "out differs by", id="other values"),
        pytest.param({"out": torch.full((4, 6, 8), float("nan"))}, "different", "out differs by nan", id="NaN"),
        pytest.param(
            {"out": torch.zeros(4, 6, 7)}, "different", r"out is \(4, 6, 8\), not \(4, 6, 7\)", id="other shape"
        ),
        pytest.param({"out.map": torch.zeros(1)}, "different", "out.map is not given", id="an output that we lack"),
        pytest.param({"constructor": {"gate": True}}, "failed", "does not know: gate", id="unknown argument"),
        pytest.param({"constructor": {"qk_scale": 0.1}}, "different", "out differs by", id="a value that counts"),
        pytest.param({"constructor": {"num_heads": 3}}, "failed", "heads 3 does not divide 8", id="heads"),
        pytest.param(
            {"state": {"gate.weight": torch.zeros(1)}}, "failed", "does not know: gate.weight", id="unknown entry"
        ),
        pytest.param(
            {"state": {"qkv.weight": torch.zeros(24, 9)}}, "failed", "does not fit.*size mismatch", id="shape"
        ),
        pytest.param({"name": "nobody_knows"}, "unclaimed", "no mechanism names this", id="unclaimed"),
    ],
)
def test_what_does_not_fit_is_said(golden: Callable[..., Path], change: dict, status: str, message: str) -> None:
    (verdict,) = verify(golden(**change))
    assert verdict.status == status
    assert verdict.good == (status == "unclaimed")
    assert re.search(message, verdict.message), verdict.message


def test_a_value_that_is_not_served_is_refused_by_name() -> None:
    given = Given({"act_layer": "relu"})
    given.only("norm_layer", "layer")  # not given: the authors' default holds
    with pytest.raises(ValueError, match="act_layer='relu' is not served, only 'gelu'"):
        given.only("act_layer", "gelu")


def test_reference_of_a_card_without_an_adapter_is_missing(
    golden: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = golden()
    monkeypatch.delitem(adapter_classes(), "swin_window_attention")
    (verdict,) = verify(folder)
    assert (verdict.status, verdict.mechanism, verdict.good) == ("missing", "window", False)


def test_references_are_chosen_by_name_case_or_mechanism(golden: Callable[..., Path]) -> None:
    folder = golden()
    golden(name="nobody_knows")
    for chosen in (["window"], ["swin_window_attention"], ["swin_window_attention/a"]):
        assert [one.case for one in verify(folder, chosen)] == ["swin_window_attention/a"]
    assert len(verify(folder)) == 2
    with pytest.raises(ValueError, match="no reference or mechanism is called 'windoww'; did you mean 'window'"):
        verify(folder, ["windoww"])


def test_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no references"):
        verify(tmp_path)


def test_published_weights_are_loaded_into_our_module(golden_root: Path) -> None:
    folder = golden_root / "swin_block" / "a"
    meta = json.loads((folder / "meta.json").read_text())
    block = load_published("swin_block", meta["constructor"], load_file(folder / "state.safetensors"))
    assert not block.training
    x = load_file(folder / "io.safetensors")
    out = block(x["in.x"].unflatten(1, (8, 8))).flatten(1, 2)
    torch.testing.assert_close(out, x["out"], atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="no adapter is called 'swin_blok'; did you mean 'swin_block'"):
        load_published("swin_blok", {}, {})
