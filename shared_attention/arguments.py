"""What every mechanism does with its plain arguments: spread them over axes, choose heads, judge values.

>>> per_axis("window", 7, 3)
(7, 7, 7)
>>> choose_heads(96), choose_heads(20)
(3, 1)
>>> heads_of(64, 4)
(4, 16)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

__all__ = ["choose_heads", "heads_of", "largest_divisor", "per_axis", "positive", "volume"]


def per_axis(name: str, value: int | Sequence[int], rank: int, *, minimum: int = 1) -> tuple[int, ...]:
    """One whole number for each grid axis; a single number means the same on every axis.

    Args:
        name: What the value is called, for the error.
        value: A number, or one number an axis.
        rank: How many axes the grid has.
        minimum: Smallest number allowed.

    Raises:
        ValueError: The value has another number of axes, or a number below `minimum`.
    """
    values = (value,) * rank if isinstance(value, int) else tuple(value)
    if len(values) != rank:
        raise ValueError(f"{name} {values} has {len(values)} axes, the grid has {rank}")
    if any(number < minimum for number in values):
        raise ValueError(f"{name} {value} holds a number below {minimum}")
    return values


def positive(name: str, value: float) -> None:
    """Raise a ValueError unless the value is above zero."""
    if not value > 0:
        raise ValueError(f"{name} {value} is not above zero")


def choose_heads(dim: int, width: int = 32) -> int:
    """The number of heads that divides `dim` with a head width closest to `width` (the wider one of two)."""
    return min(
        (heads for heads in range(1, dim + 1) if dim % heads == 0), key=lambda heads: (abs(dim // heads - width), heads)
    )


def heads_of(dim: int, heads: int | None, width: int = 32) -> tuple[int, int]:
    """Number of heads and channels of each.

    Args:
        dim: Channels `C` to split.
        heads: Number of heads, or None to choose one of about `width` channels a head.
        width: The head width aimed at.

    Raises:
        ValueError: The heads do not divide the channels.
    """
    if heads is None:
        heads = choose_heads(dim, width)
    if heads < 1 or dim % heads:
        allowed = ", ".join(str(number) for number in range(1, dim + 1) if dim % number == 0)
        raise ValueError(f"heads {heads} does not divide {dim} channels; these do: {allowed}")
    return heads, dim // heads


def largest_divisor(number: int, limit: int) -> int:
    """The largest divisor of a number that is not above a limit, at least one: `largest_divisor(12, 5) == 4`."""
    return max(part for part in range(1, max(1, limit) + 1) if number % part == 0)


def volume(value: int | Sequence[int], rank: int) -> int:
    """Tokens in a window given as one number or one an axis: `volume(7, 2) == 49`."""
    return prod(per_axis("window", value, rank))
