"""Cutting grids on one to three axes: there and back, who is in which group, what lies around a block."""

from __future__ import annotations

import itertools

import pytest
import torch

from shared_attention import grids

GRIDS = [
    pytest.param((7,), (3,), id="line"),
    pytest.param((5, 8), (2, 3), id="plane"),
    pytest.param((3, 4, 5), (2, 3, 2), id="box"),
]


def numbered(grid: tuple[int, ...], batch: int = 2) -> torch.Tensor:
    """Tokens whose channels are the row and the place."""
    places = torch.stack(torch.meshgrid(*(torch.arange(size) for size in grid), indexing="ij"), -1)
    rows = torch.arange(batch).view(-1, *[1] * (len(grid) + 1)).expand(batch, *grid, 1)
    return torch.cat([rows, places.expand(batch, *places.shape)], -1).float() + 1


@pytest.mark.parametrize("centred", [False, True])
@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_padding_is_taken_away_again(grid: tuple[int, ...], window: tuple[int, ...], centred: bool) -> None:
    x = numbered(grid)
    padded, mask = grids.pad_to_multiple(x, window, centred=centred)
    assert all(size % part == 0 for size, part in zip(padded.shape[1:-1], window, strict=True))
    assert mask is not None
    assert torch.equal(mask, padded[..., 0] > 0)
    assert torch.equal(grids.crop(padded, grid, centred=centred), x)
    assert grids.pad_to_multiple(x, (1,) * len(grid)) == (x, None)


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_windows_hold_neighbours_and_merge_back(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    x, _ = grids.pad_to_multiple(numbered(grid), window)
    groups = grids.partition(x, window)
    for row, group in itertools.product(range(2), range(groups.shape[1])):
        tokens = groups[row, group]
        assert (tokens[:, 0] == row + 1).all() or (tokens == 0).any()
    count = grids.group_grid(x.shape[1:-1], window)
    for at, group in zip(itertools.product(*map(range, count)), groups[0], strict=True):
        inside = tuple(slice(start * size, (start + 1) * size) for start, size in zip(at, window, strict=True))
        assert torch.equal(group, x[0][inside].flatten(0, -2))
    assert torch.equal(grids.merge(groups, window, x.shape[1:-1]), x)


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_strided_groups_lie_equally_far_apart_and_merge_back(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    x, _ = grids.pad_to_multiple(numbered(grid), window)
    strides = grids.group_grid(x.shape[1:-1], window)
    groups = grids.partition_strided(x, window)
    for first, group in zip(itertools.product(*map(range, strides)), groups[0], strict=True):
        inside = tuple(slice(start, None, step) for start, step in zip(first, strides, strict=True))
        assert torch.equal(group, x[0][inside].flatten(0, -2))
    assert torch.equal(grids.merge_strided(groups, window, x.shape[1:-1]), x)


@pytest.mark.parametrize(
    ("grid", "window", "shift"),
    [
        pytest.param((8,), (4,), (2,), id="line"),
        pytest.param((4, 6), (2, 3), (1, 0), id="one axis shifted"),
        pytest.param((4, 6), (2, 3), (1, 2), id="uneven shift"),
        pytest.param((4, 2, 6), (2, 2, 3), (1, 0, 1), id="box"),
    ],
)
def test_shifted_windows_do_not_reach_across_the_border(grid, window, shift) -> None:  # type: ignore[no-untyped-def]
    seen = grids.shift_mask(grid, window, shift, torch.device("cpu"))
    places = grids.partition(grids.roll(numbered(grid, 1), [-step for step in shift]), window)[0]  # (G, n, 1 + rank)
    for group in range(len(places)):
        for one, other in itertools.product(range(places.shape[1]), repeat=2):
            apart = (places[group, one, 1:] - places[group, other, 1:]).abs()
            near = all(float(gap) < size for gap, size in zip(apart, window, strict=True))
            assert bool(seen[group, one, other]) == near


@pytest.mark.parametrize(("grid", "window"), GRIDS)
def test_halo_holds_what_lies_around_a_block(grid: tuple[int, ...], window: tuple[int, ...]) -> None:
    x, mask = grids.pad_to_multiple(numbered(grid), window)
    halo = tuple(range(1, len(grid) + 1))
    around, real = grids.gather_halo(x, window, halo, mask)
    assert mask is not None
    for group, at in enumerate(itertools.product(*map(range, grids.group_grid(x.shape[1:-1], window)))):
        places = itertools.product(
            *(
                range(start * size - more, (start + 1) * size + more)
                for start, size, more in zip(at, window, halo, strict=True)
            )
        )
        for token, place in enumerate(places):
            inside = all(0 <= one < size for one, size in zip(place, x.shape[1:-1], strict=True))
            assert torch.equal(around[0, group, token], x[0][place] if inside else torch.zeros(x.shape[-1]))
            assert bool(real[0, group, token]) == (inside and bool(mask[0][place]))


def test_stripes_and_regions_are_windows() -> None:
    assert grids.stripe((6, 8), 1, 2) == (6, 2)
    assert grids.stripe((6, 8, 4), 0, 1) == (1, 8, 4)
    assert grids.region_size((14, 15, 3), (7, 7, 7)) == (2, 3, 1)
