"""The one softmax: every form of mask, bias and shape against a loop, and what can be set and seen."""

from __future__ import annotations

import importlib
import itertools
import logging
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import flex_attention

from shared_attention import attend, attend_oracle, build, record_attention, token_softmax, use_backend
from shared_attention.attend import _SETTING, backend

module_of_attend = importlib.import_module("shared_attention.attend")  # the package's own `attend` is the function


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loop(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, bias: Tensor | None, scale: float | None, causal: bool
) -> Tensor:
    lead, (n, m) = q.shape[:-2], (q.shape[-2], k.shape[-2])
    seen = torch.ones(*lead, n, m, dtype=torch.bool) if mask is None else mask.expand(*lead, n, m)
    added = torch.zeros(*lead, n, m).double() if bias is None else bias.expand(*lead, n, m)
    out = torch.zeros(*lead, n, v.shape[-1], dtype=q.dtype)
    for at in itertools.product(*map(range, lead)):
        for query in range(n):
            keys = [key for key in range(m) if seen[at][query, key] and not (causal and key > query)]
            weights = [
                math.exp(
                    float(q[at][query] @ k[at][key]) * (q.shape[-1] ** -0.5 if scale is None else scale)
                    + float(added[at][query, key])
                )
                for key in keys
            ]
            for weight, key in zip(weights, keys, strict=True):
                out[at][query] += weight / sum(weights) * v[at][key]
    return out


def bool_mask(*shape: int) -> Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) > 0.4
    mask[..., 0, :] = False  # somewhere a row that sees nothing
    return mask


CASES = [
    pytest.param((2, 3), 5, 5, None, None, {}, id="self"),
    pytest.param((2, 3), 5, 4, None, None, {"scale": 0.3}, id="cross with a scale"),
    pytest.param((2, 3), 4, 4, None, None, {"causal": True}, id="causal"),
    pytest.param((2, 3), 5, 3, None, None, {"causal": True}, id="causal, more queries than keys"),
    pytest.param((2, 3), 3, 5, None, None, {"causal": True}, id="causal, more keys than queries"),
    pytest.param((2, 3), 4, 4, (2, 1, 1, 4), None, {"causal": True}, id="causal and padded keys"),
    pytest.param((2, 3), 4, 4, None, (3, 4, 4), {"causal": True}, id="causal and a bias by head"),
    pytest.param((2, 3), 5, 4, (2, 3, 5, 4), None, {}, id="full mask"),
    pytest.param((2, 3), 5, 4, (5, 4), (3, 5, 4), {}, id="mask for all, bias by head"),
    pytest.param((2, 3), 5, 4, (2, 1, 5, 4), (2, 3, 5, 4), {}, id="mask by row, full bias"),
    pytest.param((2, 4, 3), 5, 5, None, (3, 5, 5), {}, id="windows, bias by head"),
    pytest.param((2, 4, 3), 5, 5, (4, 1, 5, 5), (3, 5, 5), {}, id="windows, mask by window, bias by head"),
    pytest.param((2, 4, 3), 5, 5, (2, 4, 1, 5, 5), None, {}, id="windows, mask by row and window"),
    pytest.param((2, 4, 3), 5, 5, (5, 5), None, {}, id="windows, one mask"),
    pytest.param((2, 4, 3), 5, 5, None, (1, 1, 1, 5, 5), {}, id="windows, one bias of all axes"),
    pytest.param((2, 2, 2, 3), 4, 4, (2, 1, 2, 1, 4, 4), None, {}, id="four leading axes"),
    pytest.param((3,), 5, 4, (5, 4), None, {}, id="one leading axis"),
    pytest.param((), 5, 4, (5, 4), None, {}, id="no leading axis"),
]


@pytest.mark.parametrize("name", ["fused", "oracle", "flex"])
@pytest.mark.parametrize(("lead", "n", "m", "mask", "bias", "options"), CASES)
def test_every_form_equals_the_loop(name, lead, n, m, mask, bias, options) -> None:  # type: ignore[no-untyped-def]
    q, k, v = drawn(*lead, n, 6), drawn(*lead, m, 6, seed=1), drawn(*lead, m, 7, seed=2)
    seen = None if mask is None else bool_mask(*mask)
    added = None if bias is None else drawn(*bias, seed=4)
    expected = by_loop(q, k, v, seen, added, options.get("scale"), options.get("causal", False))
    with use_backend(name):
        torch.testing.assert_close(attend(q, k, v, mask=seen, bias=added, **options), expected)
    torch.testing.assert_close(attend_oracle(q, k, v, mask=seen, bias=added, **options), expected)
    if added is not None:
        added.requires_grad_(True)
        with use_backend(name):
            learned = attend(q, k, v, mask=seen, bias=added, **options)
        torch.testing.assert_close(learned, expected)
        (grad,) = torch.autograd.grad(learned.square().sum(), added)
        (plain,) = torch.autograd.grad(attend_oracle(q, k, v, mask=seen, bias=added, **options).square().sum(), added)
        torch.testing.assert_close(grad, plain)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize(
    ("lead", "n", "m", "mask", "bias", "options"), [one for one in CASES if len(one.values[0]) == 2]
)
def test_flex_attention_follows_the_same_rules(monkeypatch, lead, n, m, mask, bias, options) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(module_of_attend, "_flex_attention", lambda: flex_attention)
    q, k, v = drawn(*lead, n, 6), drawn(*lead, m, 6, seed=1), drawn(*lead, m, 7, seed=2)
    seen = torch.ones(n, m, dtype=torch.bool) if mask is None else bool_mask(*mask)
    seen = seen | ~seen.any(-1, keepdim=True)
    rules = seen if bias is None else drawn(*bias, seed=4).masked_fill(~seen, -math.inf)
    causal = options.get("causal", False)
    if causal and mask is not None:
        pytest.skip("attend joins the two before")
    given = module_of_attend._flex(q, k, v, rules, options.get("scale"), causal)
    expected = by_loop(q, k, v, seen, None if bias is None else drawn(*bias, seed=4), options.get("scale"), causal)
    torch.testing.assert_close(given, expected)


def test_row_that_sees_nothing_gives_zeros_and_finite_gradients() -> None:
    q, k, v = (drawn(1, 1, 3, 4, seed=seed).requires_grad_(True) for seed in range(3))
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    for name in ("fused", "oracle"):
        with use_backend(name):
            out = attend(q, k, v, mask=mask)
            assert (out[0, 0, 1] == 0).all()
            for grad in torch.autograd.grad(out.square().sum(), (q, k, v)):
                assert grad.isfinite().all()


def test_backend_is_set_for_a_block_or_for_good() -> None:
    assert backend() == "fused"
    with use_backend("oracle"):
        assert backend() == "oracle"
        with use_backend("flex"):
            assert backend() == "flex"
        assert backend() == "oracle"
    assert backend() == "fused"
    use_backend("oracle")
    assert backend() == "oracle"
    use_backend("fused")
    with pytest.raises(ValueError, match="no attention backend is called 'fast'; there are fused, oracle, flex"):
        use_backend("fast")  # type: ignore[arg-type]


def test_choice_is_logged_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_SETTING, "logged", frozenset())
    q = drawn(1, 1, 2, 4)
    with caplog.at_level(logging.INFO, "shared_attention"):
        for _ in range(3):
            attend(q, q, q)
        with use_backend("oracle"):
            attend(q, q, q)
    assert [record.message for record in caplog.records] == ["attention runs on fused", "attention runs on oracle"]


def test_softmax_over_tokens_takes_any_axis_and_masks() -> None:
    logits = drawn(2, 3, 4)
    mask = torch.ones(2, 3, 4, dtype=torch.bool)
    mask[0, :, 1] = False
    mask[1, 1] = False
    weights = token_softmax(logits, mask=mask, dim=1)
    assert (weights[~mask] == 0).all()
    torch.testing.assert_close(weights.sum(1), mask.any(1).double())


class Stack(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = build("window", 8, rank=2, window=2)
        self.rest = nn.ModuleList([build("full", 8, rank=2, heads=2), nn.Linear(8, 8)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.rest[0](self.first(x))
        return self.rest[1](self.rest[0](x))


def test_every_map_of_a_model_is_seen_by_its_path() -> None:
    model = Stack().eval()
    x = torch.randn(2, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    expected = model(x)
    with record_attention(model) as maps:
        recorded = model(x)
    torch.testing.assert_close(recorded, expected)
    assert {path: [tuple(one.shape) for one in found] for path, found in maps.items()} == {
        "first": [(2, 6, 1, 4, 4)],
        "rest.0": [(2, 2, 20, 20)] * 2,
    }
    for found in maps.values():
        for one in found:
            sums = one.sum(-1)
            torch.testing.assert_close(sums, (sums > 0).to(sums.dtype))
    model(x)
    assert len(maps["rest.0"]) == 2, "nothing is recorded after the block"
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_recording_survives_an_error_inside_the_model() -> None:
    model = Stack().eval()
    with record_attention(model) as maps:
        with pytest.raises(ValueError, match="channels"):
            model(torch.zeros(1, 4, 4, 7))
        model(torch.zeros(1, 4, 4, 8))
    assert sorted(maps) == ["first", "rest.0"]
    assert _SETTING.maps is None


def test_dropout_drops_weights_in_training_alone() -> None:
    mixer = build("full", 8, rank=1, dropout=0.5)
    x = torch.randn(1, 64, 8, generator=torch.Generator().manual_seed(0))
    assert not torch.equal(mixer(x), mixer(x))
    mixer.eval()
    assert torch.equal(mixer(x), mixer(x))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize(("lead", "n", "m", "mask", "bias", "options"), CASES)
@pytest.mark.parametrize("name", ["fused", "flex"])
def test_every_form_equals_the_written_out_one_on_a_gpu(name, lead, n, m, mask, bias, options) -> None:  # type: ignore[no-untyped-def]
    q, k, v = (part.float().cuda() for part in (drawn(*lead, n, 16), drawn(*lead, m, 16), drawn(*lead, m, 16)))
    seen = None if mask is None else bool_mask(*mask).cuda()
    added = None if bias is None else drawn(*bias, seed=4).float().cuda()
    with use_backend(name):
        out = attend(q, k, v, mask=seen, bias=added, **options)
    torch.testing.assert_close(out, attend_oracle(q, k, v, mask=seen, bias=added, **options), atol=2e-3, rtol=2e-3)


@pytest.mark.parametrize(("keys", "values"), [pytest.param(3, 8, id="wide values"), pytest.param(8, 3, id="wide keys")])
def test_keys_and_values_may_differ_in_width(keys: int, values: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 3, 5, keys), (2, 3, 4, keys), (2, 3, 4, values))
    q, k, v = (torch.randn(s, generator=generator, dtype=torch.float64, requires_grad=True) for s in shapes)
    out = attend(q, k, v, mask=torch.tensor([True, True, False, True]))
    expected = attend_oracle(q, k, v, mask=torch.tensor([True, True, False, True]))
    torch.testing.assert_close(out, expected)
    for one, other in zip(*(torch.autograd.grad(o.square().sum(), (q, k, v)) for o in (out, expected)), strict=True):
        torch.testing.assert_close(one, other)
