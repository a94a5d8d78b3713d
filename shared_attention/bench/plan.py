"""What is measured, and what comes of it.

>>> grid_of(4096, 2), grid_of(100_000, 2), grid_of(100_000, 3)
((64, 64), (250, 400), (40, 50, 50))
>>> grid_of(1009, 2)  # a prime: the nearest square
(32, 32)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from math import prod
from typing import Any, Literal

from shared_attention.registry import card

__all__ = ["Measurement", "Outcome", "Request", "grid_of"]

Outcome = Literal["ok", "out_of_memory", "timeout", "failed"]


def grid_of(tokens: int, axes: int) -> tuple[int, ...]:
    """The grid of `tokens` tokens whose sides are most alike; if its longest side were more than twice its shortest,
    the cube (square, line) that has nearly as many tokens.

    Raises:
        ValueError: Tokens or axes are out of range.
    """
    if tokens < 1 or not 1 <= axes <= 3:
        raise ValueError(f"{tokens} tokens on {axes} axes: allowed are 1 token or more on 1 to 3 axes")
    found = min(_factors(tokens, axes), key=lambda sides: sides[-1] / sides[0])
    return found if found[-1] <= 2 * found[0] else (round(tokens ** (1 / axes)),) * axes


def _factors(number: int, parts: int, least: int = 1) -> Iterator[tuple[int, ...]]:
    """All ascending factorisations."""
    if parts == 1:
        yield (number,)
        return
    for first in range(least, round(number ** (1 / parts)) + 1):
        if number % first == 0:
            yield from ((first, *rest) for rest in _factors(number // first, parts - 1, first))


@dataclass(frozen=True)
class Request:
    """One mechanism on one size."""

    name: str
    grid: tuple[int, ...]
    """`S`."""
    channels: int
    """`C`."""
    batch: int = 1
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = 1
    """Threads of one operation on a CPU."""
    seconds: float = 0.5
    """How long a pass is repeated at least, three times or more; 0 for one pass, whose peak of memory is taken too."""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    """Of the mechanism; the rest take their defaults."""

    @property
    def tokens(self) -> int:
        """`N`."""
        return prod(self.grid)

    @property
    def multiplications(self) -> float:
        """What the card's formula says of one forward pass."""
        sizes = {"N": self.tokens, "C": self.channels, "rank": len(self.grid)}
        return self.batch * card(self.name).cost_of(**sizes, **self.arguments)


@dataclass(frozen=True)
class Measurement:
    """What came of one request. Times are medians; numbers are NaN unless the outcome is `ok`."""

    request: Request
    outcome: Outcome
    forward_seconds: float = float("nan")
    """One forward pass, without gradients, in evaluation mode."""
    training_seconds: float = float("nan")
    """One forward and backward pass, in training mode."""
    forward_bytes: float = float("nan")
    """Most memory that a forward pass holds at once, with its tokens, beyond what torch itself takes."""
    training_bytes: float = float("nan")
    """The same of a forward and backward pass; parameters and all gradients are in it."""
    repeats: int = 0
    """Passes that the times are medians of."""
    message: str = ""

    @property
    def name(self) -> str:
        """Of the mechanism."""
        return self.request.name

    @property
    def tokens(self) -> int:
        """`N`."""
        return self.request.tokens

    def as_dict(self) -> dict[str, Any]:
        """One flat row."""
        row = asdict(self)
        request = row.pop("request")
        arguments = request.pop("arguments")
        head = {
            "name": request.pop("name"),
            "tokens": self.tokens,
            "grid": "x".join(map(str, request.pop("grid"))),
            **request,
            "arguments": " ".join(f"{key}={value}" for key, value in arguments.items()),
            "multiplications": self.request.multiplications,
        }
        return head | row
