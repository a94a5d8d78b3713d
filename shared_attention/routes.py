"""Routes through a grid: in which order a scan visits the tokens.

A route is an int64 table `(L,)`: the row-major place of the first token to be visited, the second, and so on.

>>> axis_routes((2, 3)).tolist()  # along the rows, along the columns
[[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5]]
>>> plane_routes((3, 3), "snake")[0].tolist()
[0, 1, 2, 5, 4, 3, 6, 7, 8]
>>> plane_routes((3, 3), "diagonal")[0].tolist()
[0, 1, 3, 6, 4, 2, 5, 7, 8]
>>> plane_routes((3, 3), "spiral")[0].tolist()
[0, 1, 2, 5, 8, 7, 6, 3, 4]
>>> both_ways(plane_routes((1, 3), "raster")).tolist()
[[0, 1, 2], [2, 1, 0], [0, 1, 2], [2, 1, 0]]
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Literal

import torch
from torch import Tensor

__all__ = ["Family", "axis_routes", "both_ways", "plane_routes"]

Family = Literal["snake", "diagonal", "spiral", "raster"]


def axis_routes(grid: Sequence[int], device: torch.device | None = None) -> Tensor:
    """One route for each grid axis, along which that axis runs fastest: int64 `(rank, L)`, the last axis first."""
    places = torch.arange(prod(grid), device=device).view(*grid)
    rank = len(grid)
    turned = [places.permute([(axis - turn) % rank for axis in range(rank)]) for turn in range(rank)]
    return torch.stack([table.flatten() for table in turned])


def plane_routes(grid: Sequence[int], family: Family, device: torch.device | None = None) -> Tensor:
    """The two routes of a family: int64 `(2, L)`.

    `snake` turns at the end of each row, and of each column; `diagonal` goes up and down the diagonals from the first
    corner, and its left-right mirror image; `spiral` goes clockwise inwards, and its up-down mirror image; `raster`
    goes along rows, and along columns. A line is a plane of one row. A volume is walked plane by plane, every second
    one backwards, so that a route that ends where a plane ends goes on in the next.

    Args:
        grid: One to three axes.
        family: What the routes look like.
        device: Where the table is made.
    """
    planes, height, width = (1, 1, *grid)[-3:]
    row = torch.arange(height, device=device)[:, None].expand(height, width)
    column = torch.arange(width, device=device).expand(height, width)
    if family == "snake":
        first = torch.where(row % 2 == 1, row * width + width - 1 - column, row * width + column).flatten()
        second = torch.where(column % 2 == 1, (height - 1 - row) * width + column, row * width + column).T.flatten()
    elif family == "diagonal":
        first = _diagonal(row, column, height).argsort()
        second = first // width * width + width - 1 - first % width
    elif family == "spiral":
        first = _inwards(row, column, height, width).argsort()
        second = (height - 1 - first // width) * width + first % width
    else:
        first, second = (row * width + column).flatten(), (row * width + column).T.flatten()
    flat = torch.stack([first, second])  # (2, plane)
    plane = torch.arange(planes, device=device)[:, None]
    stacked = torch.where(plane % 2 == 1, flat.flip(-1)[:, None], flat[:, None]) + plane * (height * width)
    return stacked.flatten(1)


def both_ways(routes: Tensor) -> Tensor:
    """Each route `(R, L)` followed by the same one walked backwards: `(2 * R, L)`."""
    return torch.stack([routes, routes.flip(-1)], 1).flatten(0, 1)


def _diagonal(row: Tensor, column: Tensor, height: int) -> Tensor:
    """When each token is visited: diagonal by diagonal, even ones upwards, odd ones downwards."""
    number = row + column
    return (number * height + torch.where(number % 2 == 1, row, height - 1 - row)).flatten()


def _inwards(row: Tensor, column: Tensor, height: int, width: int) -> Tensor:
    """When each token is visited: ring by ring, clockwise from the first corner of each."""
    down, right = height - 1 - row, width - 1 - column  # steps left to the far sides
    ring = torch.minimum(torch.minimum(row, down), torch.minimum(column, right))
    across, along = width - 1 - 2 * ring, height - 1 - 2 * ring  # steps of a side of the ring
    step = torch.where(
        row == ring,
        column - ring,
        torch.where(
            right == ring,
            across + row - ring,
            torch.where(down == ring, across + along + right - ring, 2 * across + along + down - ring),
        ),
    )
    return (ring * (2 * (height + width)) + step).flatten()
