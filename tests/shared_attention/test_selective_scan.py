"""The selective scan against the recurrence taken one token after the other, also where routes are cut into pieces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from shared_attention import build, selective_scan
from shared_attention.selective_scan import SelectiveScan
from shared_attention.testing import random_weights


def recurrence(scan: SelectiveScan, x: Tensor, order: Tensor, mask: Tensor | None) -> Tensor:
    """Every route of every row at once, token by token."""
    rank, (batch, heads, tokens, _) = scan.step_rank, x.shape
    head = torch.arange(len(order)) // (len(order) // heads)
    state = x.new_zeros(batch, *scan.decay_log.shape)  # (B, K, D, N)
    found = []
    for at in range(tokens):
        token = x[:, head, order[:, at]]  # (B, K, D)
        projected = torch.einsum("bkd,kcd->bkc", token, scan.project)
        write, read = projected[..., rank:].chunk(2, -1)
        step = functional.softplus(
            torch.einsum("bkr,kdr->bkd", projected[..., :rank], scan.step_weight) + scan.step_bias
        )
        if mask is not None:
            step = step * mask[:, order[:, at], None]
        state = torch.exp(-step[..., None] * scan.decay_log.exp()) * state
        state = state + (step * token)[..., None] * write[..., None, :]
        found.append((state * read[..., None, :]).sum(-1) + scan.skip * token)
    out = torch.stack(found, 2)  # in the order of the routes
    return torch.gather(out, 2, order.argsort(-1)[None, ..., None].expand_as(out))


def case(tokens: int, *, batch: int = 2, heads: int = 2) -> tuple[SelectiveScan, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    scan = SelectiveScan(3, routes=2 * heads, state=2, step_rank=2).double()
    random_weights(scan)
    x = torch.randn(batch, heads, tokens, 3, dtype=torch.float64, generator=generator)
    order = torch.stack([torch.randperm(tokens, generator=generator) for _ in range(2 * heads)])
    return scan, x, order, torch.rand(batch, tokens, generator=generator) > 0.3


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    ("tokens", "segment", "tile"),
    [
        pytest.param(23, 64, 2**16, id="one piece, one segment"),
        pytest.param(23, 4, 1, id="one piece, segments, the last one short"),
        pytest.param(24, 4, 2**16, id="pieces of one segment"),
        pytest.param(23, 3, 300, id="pieces of segments, the last piece short"),
        pytest.param(26, 5, 2**16, id="pieces, the last one nearly empty"),
    ],
)
def test_pieces_and_segments_change_nothing(
    monkeypatch: pytest.MonkeyPatch, tokens: int, segment: int, tile: int, masked: bool
) -> None:
    monkeypatch.setattr(selective_scan, "_SEGMENT", segment)
    monkeypatch.setattr(selective_scan, "_TILE", {"cpu": tile})
    scan, x, order, mask = case(tokens)
    x.requires_grad_(True)
    given, expected = scan(x, order, mask if masked else None), recurrence(scan, x, order, mask if masked else None)
    torch.testing.assert_close(given, expected, rtol=1e-11, atol=1e-11)
    weight = torch.randn(given.shape, dtype=given.dtype, generator=torch.Generator().manual_seed(4))
    wanted = [x, *scan.parameters()]
    for one, other in zip(
        torch.autograd.grad((given * weight).sum(), wanted),
        torch.autograd.grad((expected * weight).sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_long_routes_stay_exact_in_single_precision() -> None:
    scan, x, order, _ = case(3000, batch=1, heads=1)
    expected = recurrence(scan, x, order, None)
    given = scan.float()(x.float(), order)
    assert given.dtype == torch.float32
    torch.testing.assert_close(given.double(), expected, rtol=1e-4, atol=1e-4)


def test_operator_keeps_the_rules_of_the_compiler() -> None:
    scan, x, order, mask = case(150)
    projected = torch.einsum("bhld,kcd->bklc", x, scan.project).contiguous()
    decay = -scan.decay_log.exp().transpose(1, 2).contiguous()
    given = (x, projected, scan.step_weight, scan.step_bias, decay, scan.skip)
    given = tuple(one.detach().requires_grad_(True) for one in given)
    torch.library.opcheck(selective_scan._scan, (*given, order, mask), test_utils=("test_schema", "test_faketensor"))


def test_padded_image_gives_what_the_cropped_one_gives() -> None:
    scan = random_weights(build("ss2d", 6, rank=2, state=3)).double().eval()
    image = torch.randn(2, 4, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    wide = functional.pad(image, (0, 0, 0, 3, 0, 2), value=7.0)
    mask = torch.zeros(2, 6, 8, dtype=torch.bool)
    mask[:, :4, :5] = True
    torch.testing.assert_close(scan(wide, mask=mask)[:, :4, :5], scan(image), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("name", ["ss2d", "vss_gate"])
def test_even_kernels_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="kernel 4 is not odd"):
        build(name, 8, rank=2, kernel=4)
