"""What stands around a mixer: norms that padding has no part in, and the two forms of a block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from shared_attention import build
from shared_attention.blocks import Block, FeedForward, make_activation
from shared_attention.norms import BatchNorm, GroupNorm, make_norm
from shared_attention.testing import random_weights


def ragged() -> tuple[Tensor, Tensor]:
    x = torch.randn(3, 4, 5, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(3, 4, 5, dtype=torch.bool)
    mask[0], mask[1, :2, :3], mask[2, 0, 0] = True, True, True
    return x.masked_fill(~mask.unsqueeze(-1), 0.0), mask


@pytest.mark.parametrize("groups", [1, 2, 8])
def test_group_norm_counts_real_tokens_alone(groups: int) -> None:
    x, mask = ragged()
    norm = random_weights(GroupNorm(8, groups=groups))
    plain = nn.GroupNorm(groups, 8)
    plain.load_state_dict(norm.state_dict())
    torch.testing.assert_close(norm(x), plain(x.movedim(-1, 1)).movedim(1, -1))
    short = plain(x[1:2, :2, :3].movedim(-1, 1)).movedim(1, -1)
    torch.testing.assert_close(norm(x, mask)[1:2, :2, :3], short, atol=1e-5, rtol=1e-5)
    assert norm(x, torch.zeros_like(mask)).isfinite().all()
    with pytest.raises(ValueError, match="groups 3 does not divide 8 channels"):
        GroupNorm(8, groups=3)


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_counts_real_tokens_alone(training: bool) -> None:
    x, mask = ragged()
    norm, plain = BatchNorm(8).train(training), nn.BatchNorm1d(8).train(training)
    plain.load_state_dict(random_weights(norm).state_dict())
    torch.testing.assert_close(norm(x, mask)[mask], plain(x[mask]), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(norm.state_dict(), plain.state_dict())
    torch.testing.assert_close(norm(x)[mask], plain(x.flatten(0, -2)).view_as(x)[mask])


@pytest.mark.parametrize("norm", ["layer", "rms", "group", "batch", "none"])
@pytest.mark.parametrize("placement", ["pre", "post"])
def test_block_is_its_formula_and_inert_to_padding(norm: str, placement: str) -> None:
    mixer = build("full", 8, rank=2, heads=2)
    block = random_weights(
        Block(mixer, FeedForward(8, hidden=12), norm=norm, placement=placement, layer_scale=0.5)
    ).eval()
    x, mask = ragged()
    out = block(x, mask=mask)
    assert torch.equal(out, block(x.masked_fill(~mask.unsqueeze(-1), float("nan")), mask=mask))

    def normed(which: nn.Module, tokens: Tensor) -> Tensor:
        return which(tokens, None) if isinstance(which, (GroupNorm, BatchNorm)) else which(tokens)

    y = x[1:2, :2, :3]  # the second row without its padding
    if placement == "pre":
        y = y + block.scale1 * block.mixer(normed(block.norm1, y))
        y = y + block.scale2 * block.feed_forward(normed(block.norm2, y))
    else:
        y = y + block.scale1 * normed(block.norm1, block.mixer(y))
        y = y + block.scale2 * normed(block.norm2, block.feed_forward(y))
    torch.testing.assert_close(out[1:2, :2, :3], y, atol=1e-5, rtol=1e-5)


def test_block_without_a_feed_forward_part_is_the_mixer_and_a_residual() -> None:
    block = Block(build("full", 8, rank=1, heads=2)).eval()
    x = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(block(x), x + block.mixer(block.norm1(x)))
    assert not any(name.startswith(("norm2", "scale")) for name, _ in block.named_parameters())


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ValueError, match="no norm is called 'instance'; there are layer"):
        make_norm("instance", 8)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no activation is called 'tanh'; there are gelu"):
        make_activation("tanh")  # type: ignore[arg-type]
