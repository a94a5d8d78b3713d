"""The contracts that are not yet in the registry, and what the base classes promise for any mechanism."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from shared_attention import Pair, Pool, Reduced, Reducer, TokenMixer


class Everything(Pool):
    def pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return x.flatten(1, -2).sum(1, keepdim=True) + 1


class Swap(Pair):
    def exchange(self, x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        return x + y.flatten(1, -2).sum(1).view(len(y), *[1] * (x.ndim - 2), -1), y + 1


class Halves(Reducer):
    def reduce(self, x: Tensor, mask: Tensor | None, sizes: Tensor) -> Reduced:
        tokens, weights = x.flatten(1, -2), sizes.flatten(1)
        index = torch.arange(tokens.shape[1]) // 2
        source = index.expand(len(x), -1)
        kept = int(index[-1]) + 1
        summed = tokens.new_zeros(len(x), kept, self.dim).index_add(1, index, tokens * weights[..., None])
        size = weights.new_zeros(len(x), kept).index_add(1, index, weights)
        source = source if mask is None else source.masked_fill(~mask.flatten(1), -1)
        return Reduced(summed / size.clamp(min=1)[..., None], size, source)


class Same(TokenMixer):
    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return x + 1 if context is None else x + context.flatten(1, -2).sum(1, keepdim=True)


def test_pool_blanks_padding_and_rows_without_tokens() -> None:
    x = torch.tensor([[1.0, 2.0, float("nan")], [4.0, 5.0, 6.0]]).unsqueeze(-1)
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert Everything(1, rank=1)(x, mask=mask).flatten().tolist() == [4.0, 0.0]
    assert Everything(1, rank=1)(x[1:]).flatten().tolist() == [16.0]


def test_pair_takes_grids_of_two_kinds() -> None:
    pair = Swap(2, rank=2, other_dim=2)
    x, y = torch.zeros(1, 2, 3, 2), torch.ones(1, 4, 2)
    y_mask = torch.tensor([[True, True, False, False]])
    new_x, new_y = pair(x, y, y_mask=y_mask)
    assert new_x.shape == x.shape
    assert (new_x == 2).all()
    assert new_y[0, :, 0].tolist() == [2.0, 2.0, 0.0, 0.0]
    with pytest.raises(ValueError, match=r"y \(1, 4, 3\) has 3 channels in its last axis, this was built for 2"):
        pair(x, torch.zeros(1, 4, 3))
    with pytest.raises(ValueError, match=r"y_mask \(1, 3\) does not fit y \(1, 4, 2\): allowed is \(1, 4\)"):
        pair(x, y, y_mask=y_mask[:, :3])


def test_reduced_tokens_go_back_to_their_grid() -> None:
    x = torch.arange(1.0, 7.0).view(1, 2, 3, 1)
    mask = torch.tensor([[[True, True, True], [False, True, True]]])
    reduced = Halves(1, rank=2)(x, mask=mask)
    assert reduced.sizes.tolist() == [[2.0, 1.0, 2.0]]
    assert reduced.restore(reduced.tokens, (2, 3)).flatten().tolist() == [1.5, 1.5, 3.0, 0.0, 5.5, 5.5]
    with pytest.raises(ValueError, match=r"sizes \(1, 6\) does not fit x"):
        Halves(1, rank=2)(x, sizes=torch.ones(1, 6))


def test_classes_outside_the_registry_serve_every_rank_and_take_a_context() -> None:
    for rank in (1, 2, 3):
        assert Same(1, rank=rank)(torch.zeros(1, *[2] * rank, 1), torch.ones(1, 3, 1)).max() == 3
    with pytest.raises(ValueError, match="Same serves grids of 1, 2, 3 axes, not 4"):
        Same(1, rank=4)


def test_what_a_mechanism_leaves_in_padding_is_blanked() -> None:
    mask = torch.tensor([[True, False]])
    assert Same(1, rank=1)(
        torch.full((1, 2, 1), float("inf")).masked_fill(mask[..., None], 1.0), mask=mask
    ).flatten().tolist() == [2, 0]
