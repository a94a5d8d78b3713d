"""How time, memory and operations grow with the tokens: slopes on logarithmic axes, beside that of the card's formula.

>>> round(slope([100, 200, 400], [3.0, 12.0, 48.0]), 6)  # four times as much for twice as many
2.0
>>> round(cost_slope("full", [1024, 4096], channels=64, axes=2), 2)  # on its way from 1 to 2
1.94
>>> is_linear("window"), is_linear("full")
(True, False)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from shared_attention.bench.count import counted
from shared_attention.bench.plan import Measurement, Request
from shared_attention.registry import card

__all__ = ["Growth", "cost_slope", "growth", "is_linear", "slope"]

_FAR = (25_000, 100_000)
"""Tokens between which growth shows what a mechanism is in the end."""
_PAGE = 4096
"""Bytes that resident memory is counted in."""
_LINEAR = 1.1
"""Largest slope that is called linear; a fast Fourier transform is."""


@dataclass(frozen=True)
class Growth:
    """Slopes of one mechanism over the same numbers of tokens."""

    name: str
    sizes: tuple[int, ...]
    """Tokens."""
    expected: float
    """Of the multiplications that the card's formula gives."""
    operations: float
    """Of the operations that a forward pass does, counted: the same on every machine, busy or not."""
    forward: float
    """Of the time of a forward pass."""
    training: float
    """Of the time of a forward and backward pass."""
    memory: float
    """Of the peak of memory of a forward and backward pass."""

    @property
    def apart(self) -> float:
        """How much steeper the operations grow than the formula says; negative where they grow less."""
        return self.operations - self.expected

    def as_dict(self) -> dict[str, Any]:
        """One flat row."""
        return {**asdict(self), "sizes": " ".join(map(str, self.sizes)), "apart": self.apart}


def slope(sizes: Sequence[float], values: Sequence[float]) -> float:
    """Least-squares slope of log value over log size.

    Raises:
        ValueError: There are fewer than two different sizes, or a number is not above zero.
    """
    if len(set(sizes)) < 2:
        raise ValueError(f"sizes {list(sizes)}: a slope needs two different ones")
    if min(*sizes, *values) <= 0:
        raise ValueError(f"sizes {list(sizes)} or values {list(values)}: allowed are numbers above zero")
    across, up = [math.log(one) for one in sizes], [math.log(one) for one in values]
    middle, height = sum(across) / len(across), sum(up) / len(up)
    moved = [one - middle for one in across]
    return sum(a * (b - height) for a, b in zip(moved, up, strict=True)) / sum(a * a for a in moved)


def cost_slope(
    name: str, sizes: Sequence[int], *, channels: int, axes: int, arguments: Mapping[str, Any] | None = None
) -> float:
    """Slope of the card's formula over these numbers of tokens."""
    given = {"C": channels, "rank": axes, **(arguments or {})}
    return slope(sizes, [card(name).cost_of(N=tokens, **given) for tokens in sizes])


def is_linear(name: str, *, channels: int = 256, axes: int = 2) -> bool:
    """Whether the card's formula grows in proportion to the tokens, from 25,000 to 100,000 of them."""
    return cost_slope(name, _FAR, channels=channels, axes=axes) <= _LINEAR


def growth(measurements: Iterable[Measurement]) -> list[Growth]:
    """Growth of each mechanism that was measured on two sizes or more, in order of appearance."""
    grouped: dict[str, list[Measurement]] = {}
    for one in measurements:
        if one.outcome == "ok":
            grouped.setdefault(one.name, []).append(one)
    return [_growth(group) for group in grouped.values() if len({one.tokens for one in group}) > 1]


def _growth(group: Sequence[Measurement]) -> Growth:
    sizes = tuple(one.tokens for one in group)
    return Growth(
        group[0].name,
        sizes,
        expected=slope(sizes, [one.request.multiplications for one in group]),
        operations=slope(sizes, [_operations(one.request) for one in group]),
        forward=slope(sizes, [one.forward_seconds for one in group]),
        training=slope(sizes, [one.training_seconds for one in group]),
        memory=slope(sizes, [max(one.training_bytes, _PAGE) for one in group]),
    )


def _operations(request: Request) -> int:
    count = counted(request, training=False, backend="oracle")
    return count.multiplications + count.elementwise
