"""Routes visit every token once, and those that are meant to be connected never jump."""

from __future__ import annotations

from math import prod
from typing import get_args

import pytest
import torch

from shared_attention.routes import Family, axis_routes, both_ways, plane_routes

GRIDS = [(1,), (7,), (1, 5), (5, 1), (2, 2), (3, 5), (6, 4), (7, 7), (1, 1, 4), (2, 3, 4), (3, 5, 2)]


@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("family", get_args(Family))
def test_every_token_is_visited_once(grid: tuple[int, ...], family: Family) -> None:
    for table in (plane_routes(grid, family), axis_routes(grid), both_ways(plane_routes(grid, family))):
        assert table.dtype == torch.int64
        assert torch.equal(table.sort(-1).values, torch.arange(prod(grid)).expand_as(table))


@pytest.mark.parametrize("grid", [grid for grid in GRIDS if prod(grid) > 1], ids=str)
@pytest.mark.parametrize(("family", "reach"), [("snake", 1), ("spiral", 1), ("diagonal", 2)])
def test_connected_routes_never_jump(grid: tuple[int, ...], family: Family, reach: int) -> None:
    for route in plane_routes(grid, family):
        place = torch.stack(torch.unravel_index(route, grid), -1)
        apart = place.diff(dim=0).abs()
        assert apart.max() == 1
        assert apart.sum(-1).max() <= reach


def test_each_axis_runs_fastest_once() -> None:
    grid = (2, 3, 4)
    for turn, route in enumerate(axis_routes(grid)):
        place = torch.stack(torch.unravel_index(route[:2], grid), -1)
        assert place.diff(dim=0)[0].nonzero().item() == 2 - turn
