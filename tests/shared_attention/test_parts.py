"""Windows in parts: the same numbers and gradients as all at once, and less memory."""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from shared_attention import attend, build, record_attention
from shared_attention.bench import Request, grid_of
from shared_attention.bench.count import counted
from shared_attention.parts import in_parts
from shared_attention.testing import random_weights

parts = importlib.import_module("shared_attention.parts")
GIB = 2**30


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def gradients(run: Callable[..., Tensor], *given: Tensor) -> list[Tensor]:
    leaves = [one.clone().requires_grad_() for one in given]
    out = run(*leaves)
    out.backward(drawn(*out.shape, seed=9))
    return [out.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]


@pytest.mark.parametrize("most", [1, 100, 230, 10_000], ids=["a window at a time", "two", "uneven", "all at once"])
def test_parts_are_cut_along_the_windows_only(most: int) -> None:
    seen: list[tuple[int, ...]] = []

    def run(q: Tensor, k: Tensor, shared: Tensor | None, nothing: Tensor | None) -> Tensor:
        assert nothing is None
        assert shared is not None
        assert shared.shape == (3, 4, 4)
        seen.append(tuple(q.shape))
        return q @ k.transpose(-2, -1) + shared

    q, k, shared = drawn(2, 7, 3, 4, 5), drawn(2, 7, 3, 4, 5, seed=1), drawn(3, 4, 4, seed=2)
    with torch.no_grad():
        out = in_parts(run, q, k, shared, None, weights=2 * 7 * 3 * 4 * 4, most=most)
    torch.testing.assert_close(out, q @ k.transpose(-2, -1) + shared)
    assert sum(shape[1] for shape in seen) == 7
    assert all(shape[1] * 2 * 3 * 16 <= most or shape[1] == 1 for shape in seen)


@pytest.mark.parametrize(
    ("mask", "bias"),
    [
        pytest.param(None, (3, 4, 6), id="bias by head"),
        pytest.param((7, 1, 4, 6), (3, 4, 6), id="mask by window, bias by head"),
        pytest.param((2, 7, 1, 1, 6), None, id="mask of the keys"),
        pytest.param(None, (7, 3, 4, 6), id="bias by window"),
    ],
)
def test_attention_in_parts_has_the_same_output_and_gradients(
    mask: tuple[int, ...] | None, bias: tuple[int, ...] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    q, k, v = drawn(2, 7, 3, 4, 5), drawn(2, 7, 3, 6, 5, seed=1), drawn(2, 7, 3, 6, 5, seed=2)
    visible = None if mask is None else drawn(*mask, seed=3) > -0.5
    added = [] if bias is None else [drawn(*bias, seed=4)]

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None = None) -> Tensor:
        return attend(q, k, v, mask=visible, bias=bias)

    whole = gradients(run, q, k, v, *added)
    monkeypatch.setattr(parts, "MOST_WEIGHTS", 2 * 2 * 3 * 4 * 6)
    cut = gradients(run, q, k, v, *added)
    assert len(cut) == len(whole) == 4 + len(added)
    for one, other in zip(cut, whole, strict=True):
        torch.testing.assert_close(one, other)


def test_halo_in_parts_has_the_same_output_and_gradients_and_one_map(monkeypatch: pytest.MonkeyPatch) -> None:
    mixer = random_weights(build("halo", 8, rank=2, block=4, halo=1, heads=2)).double()
    x = drawn(1, 9, 10, 8)

    def run(x: Tensor) -> Tensor:
        mixer.zero_grad()
        return mixer(x)

    whole = gradients(run, x) + [one.grad.clone() for one in mixer.parameters()]
    monkeypatch.setattr(parts, "MOST_WEIGHTS", 1)
    cut = gradients(run, x) + [one.grad for one in mixer.parameters()]
    for one, other in zip(cut, whole, strict=True):
        torch.testing.assert_close(one, other)
    with record_attention(mixer) as maps:
        mixer(x)
    assert [one.shape for one in maps["attention"]] == [(1, 9, 2, 16, 36)]


def test_parts_are_traced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "MOST_WEIGHTS", 1)
    mixer = random_weights(build("window", 8, rank=2, window=3, heads=2))
    x = drawn(1, 6, 6, 8).float()
    compiled = torch.compile(mixer, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), mixer(x))


@pytest.mark.parametrize("name", ["halo", "hat_overlap", "local", "window_v2"])
def test_large_windows_of_a_volume_train_within_6_gib(name: str) -> None:
    assert counted(Request(name, grid_of(100_000, 3), 256)).peak < 6 * GIB
