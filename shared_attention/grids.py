"""Cutting a grid of any number of axes into groups of tokens, and putting it together again.

Tokens are `(B, *S, C)`; a cut gives `(B, G, n, C)`: G groups (row-major over the grid of groups) of n tokens
(row-major inside a group). Masks and other maps without channels go through the same functions with `unsqueeze(-1)`,
or through `partition_map`.

>>> import torch
>>> x = torch.arange(2.0 * 5 * 6 * 3).view(2, 5, 6, 3)  # (B, *S, C)
>>> padded, mask = pad_to_multiple(x, (4, 4))
>>> padded.shape, mask.shape, int(mask.sum())  # real tokens: 2 * 5 * 6
(torch.Size([2, 8, 8, 3]), torch.Size([2, 8, 8]), 60)
>>> windows = partition(padded, (4, 4))
>>> windows.shape  # (B, G, n, C)
torch.Size([2, 4, 16, 3])
>>> bool((crop(merge(windows, (4, 4), (8, 8)), (5, 6)) == x).all())
True
>>> strided = partition_strided(padded, (4, 4))  # 4 x 4 tokens a group, two apart
>>> bool((merge_strided(strided, (4, 4), (8, 8)) == padded).all())
True
>>> around, real = gather_halo(padded, (4, 4), (1, 1))
>>> around.shape, int(real[0, 0].sum())  # a corner block sees 5 x 5 tokens of its 6 x 6
(torch.Size([2, 4, 36, 3]), 25)
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = [
    "crop",
    "gather_halo",
    "group_grid",
    "merge",
    "merge_dilated",
    "merge_strided",
    "pad_grid",
    "pad_to_multiple",
    "partition",
    "partition_dilated",
    "partition_map",
    "partition_strided",
    "region_size",
    "roll",
    "shift_mask",
    "stripe",
]

Grid = Sequence[int]


def pad_grid(x: Tensor, before: Grid, after: Grid) -> Tensor:
    """`(B, *S, C)` with zeros before and after each grid axis; `x` itself where there is nothing to add."""
    if not any(before) and not any(after):
        return x
    widths = [0, 0]
    for low, high in zip(reversed(before), reversed(after), strict=True):
        widths += [low, high]
    return functional.pad(x, widths)


def pad_to_multiple(
    x: Tensor, multiple: Grid, mask: Tensor | None = None, *, centred: bool = False
) -> tuple[Tensor, Tensor | None]:
    """Pad with zeros until every axis divides.

    Args:
        x: `(B, *S, C)`.
        multiple: One number an axis.
        mask: bool `(B, *S)`, True for a real token.
        centred: Pad half of it before (the smaller half), instead of all after.

    Returns:
        The padded tokens `(B, *P, C)` and their mask `(B, *P)`; the mask stays None where there was none and nothing
        is padded.
    """
    grid = x.shape[1:-1]
    missing = [-size % part for size, part in zip(grid, multiple, strict=True)]
    if not any(missing):
        return x, mask
    before = [part // 2 if centred else 0 for part in missing]
    after = [part - low for part, low in zip(missing, before, strict=True)]
    if mask is None:
        mask = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
    return pad_grid(x, before, after), pad_grid(mask.unsqueeze(-1), before, after).squeeze(-1)


def crop(x: Tensor, grid: Grid, *, centred: bool = False) -> Tensor:
    """Take padding away again: `(B, *P, C)` to `(B, *grid, C)`, with `centred` as it was padded."""
    for axis, size in enumerate(grid, start=1):
        if x.shape[axis] != size:
            x = x.narrow(axis, (x.shape[axis] - size) // 2 if centred else 0, size)
    return x


def group_grid(grid: Grid, window: Grid) -> tuple[int, ...]:
    """How many groups of size `window` lie along each axis of a grid that they divide."""
    return tuple(size // part for size, part in zip(grid, window, strict=True))


def partition(x: Tensor, window: Grid) -> Tensor:
    """Cut into windows of neighbours: `(B, *S, C)` to `(B, G, n, C)`; the window divides the grid."""
    return partition_dilated(x, window, [1] * len(window))


def merge(windows: Tensor, window: Grid, grid: Grid) -> Tensor:
    """The reverse of `partition`: `(B, G, n, C)` to `(B, *grid, C)`."""
    return merge_dilated(windows, window, [1] * len(window), grid)


def partition_map(values: Tensor, window: Grid) -> Tensor:
    """`partition` for a map without channels, such as a mask: `(B, *S)` to `(B, G, n)`."""
    return partition(values.unsqueeze(-1), window).squeeze(-1)


def partition_strided(x: Tensor, size: Grid) -> Tensor:
    """Cut into groups of tokens that lie equally far apart over the whole grid.

    Args:
        x: `(B, *S, C)`; `size` divides the grid.
        size: Tokens of a group along each axis; they lie `S // size` apart.

    Returns:
        `(B, G, n, C)`, G the product of the strides, row-major over the offset of a group's first token.
    """
    return partition_dilated(x, size, group_grid(x.shape[1:-1], size))


def merge_strided(groups: Tensor, size: Grid, grid: Grid) -> Tensor:
    """The reverse of `partition_strided`: `(B, G, n, C)` to `(B, *grid, C)`."""
    return merge_dilated(groups, size, group_grid(grid, size), grid)


def partition_dilated(x: Tensor, size: Grid, step: Grid) -> Tensor:
    """Cut into groups of tokens that lie `step` apart, each within a region of `size * step` neighbours.

    Args:
        x: `(B, *S, C)`; `size * step` divides the grid.
        size: Tokens of a group along each axis.
        step: Distance of the tokens of a group along each axis.

    Returns:
        `(B, G, n, C)`, groups row-major over the regions and then over the offset of their first token.
    """
    axes = len(size)
    split = [part for one in _regions(x.shape[1:-1], size, step) for part in one]
    at = [range(first, 3 * axes + 1, 3) for first in (1, 3, 2)]  # region, offset, place in the group
    order = [0, *(axis for one in at for axis in one), 3 * axes + 1]
    x = x.reshape(x.shape[0], *split, x.shape[-1]).permute(order)
    return x.flatten(1 + 2 * axes, -2).flatten(1, 2 * axes)


def merge_dilated(groups: Tensor, size: Grid, step: Grid, grid: Grid) -> Tensor:
    """The reverse of `partition_dilated`: `(B, G, n, C)` to `(B, *grid, C)`."""
    axes = len(size)
    regions = [one[0] for one in _regions(grid, size, step)]
    x = groups.reshape(groups.shape[0], *regions, *step, *size, groups.shape[-1])
    order = [0, *(axis + part * axes for axis in range(1, axes + 1) for part in (0, 2, 1)), 3 * axes + 1]
    return x.permute(order).reshape(groups.shape[0], *grid, groups.shape[-1])


def roll(x: Tensor, shift: Grid) -> Tensor:
    """Move the tokens of `(B, *S, C)` cyclically towards the end of each axis; negative towards the start."""
    axes = [axis for axis, step in enumerate(shift, start=1) if step]
    return torch.roll(x, [step for step in shift if step], axes) if axes else x


def shift_mask(grid: Grid, window: Grid, shift: Grid, device: torch.device) -> Tensor:
    """Which tokens of a window may see each other after `roll(x, -shift)`, so that none sees across the grid's border.

    Returns:
        bool `(G, n, n)`.
    """
    axes = len(grid)
    region = torch.zeros((1,) * axes, dtype=torch.int64, device=device)
    for axis, (size, step) in enumerate(zip(grid, shift, strict=True)):
        wrapped = (torch.arange(size, device=device) >= size - step).long()
        region = 2 * region + wrapped.view([-1 if one == axis else 1 for one in range(axes)])
    inside = partition_map(region.expand(*grid)[None], window)[0]  # (G, n)
    return inside[:, :, None] == inside[:, None, :]


def gather_halo(x: Tensor, block: Grid, halo: Grid, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """For each block of the grid its tokens and those around it.

    Args:
        x: `(B, *S, C)`; `block` divides the grid.
        block: Size of a block along each axis.
        halo: How many tokens further the block sees, on both sides of each axis.
        mask: bool `(B, *S)`, True for a real token.

    Returns:
        Tokens `(B, G, m, C)` with m the product of `block + 2 * halo`, zeros outside the grid, and bool `(B or 1, G,
        m)`, True for a real token inside the grid.
    """
    if mask is None:
        mask = torch.ones((1, *x.shape[1:-1]), dtype=torch.bool, device=x.device)
    return _overlapping(x, block, halo), _overlapping(mask.unsqueeze(-1), block, halo).squeeze(-1)


def _overlapping(x: Tensor, block: Grid, halo: Grid) -> Tensor:
    axes = len(block)
    x = pad_grid(x, halo, halo)
    for axis, (size, around) in enumerate(zip(block, halo, strict=True), start=1):
        x = x.unfold(axis, size + 2 * around, size)  # (B, *groups, C, *windows)
    return x.movedim(axes + 1, -1).flatten(axes + 1, -2).flatten(1, axes)


def stripe(grid: Grid, axis: int, width: int) -> tuple[int, ...]:
    """The window of a stripe: the whole grid but for `axis` (from zero), where it is `width` tokens wide."""
    return tuple(width if one == axis else size for one, size in enumerate(grid))


def region_size(grid: Grid, regions: Grid) -> tuple[int, ...]:
    """The window that cuts a grid, padded if need be, into about so many regions along each axis."""
    return tuple(-(-size // max(1, min(count, size))) for size, count in zip(grid, regions, strict=True))


def _regions(grid: Grid, size: Grid, step: Grid) -> list[tuple[int, int, int]]:
    return [(whole // (part * apart), part, apart) for whole, part, apart in zip(grid, size, step, strict=True)]
