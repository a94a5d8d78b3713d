"""What is peculiar to attention with a soft mask."""

from __future__ import annotations

import pytest
import torch

from shared_attention import record_attention
from shared_attention.mechanisms.heads import soft_causal
from shared_attention.mechanisms.heads.soft_causal import SoftCausal


def written_out(mixer: SoftCausal, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    with record_attention(mixer):
        return mixer(x, mask=mask)


@pytest.mark.parametrize("softness", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("rows", [pytest.param(5, id="many blocks"), pytest.param(512, id="one block")])
def test_blocks_of_queries_equal_the_weights_written_out(
    monkeypatch: pytest.MonkeyPatch, rows: int, softness: float
) -> None:
    monkeypatch.setattr(soft_causal, "_ROWS", rows)
    torch.manual_seed(0)
    mixer = SoftCausal(12, rank=1, heads=2, softness=softness).double()
    x = torch.randn(2, 17, 12, dtype=torch.float64)
    mask = torch.rand(2, 17) > 0.4
    for seen in (None, mask):
        torch.testing.assert_close(mixer(x, mask=seen), written_out(mixer, x, seen))


def test_published_mask_leaves_later_tokens_in_the_denominator() -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 6, 8)
    later = x.clone()
    later[:, 4:] += 1
    published, strict = (SoftCausal(8, rank=1, causal=causal).eval() for causal in (False, True))
    assert not torch.allclose(published(x)[:, :4], published(later)[:, :4])
    torch.testing.assert_close(strict(x)[:, :4], strict(later)[:, :4])


@pytest.mark.parametrize("softness", [-0.1, 1.1])
def test_softness_outside_its_range_is_refused(softness: float) -> None:
    with pytest.raises(ValueError, match=f"softness {softness} is not between 0 and 1"):
        SoftCausal(8, rank=1, softness=softness)


def test_softness_does_not_go_with_a_strict_mask() -> None:
    with pytest.raises(ValueError, match=r"softness 0\.5 does not go with causal"):
        SoftCausal(8, rank=1, softness=0.5, causal=True)
