"""What a test of a mechanism needs: small ones of every form, tokens for them, and one way to call all four contracts.

>>> subject = Subject("window", 2, {"window": 4})
>>> module = subject.module()
>>> x = subject.tokens(batch=3)  # (B, *S, C)
>>> [tuple(out.shape) for out in subject.run(module, x)]
[(3, 9, 10, 16)]
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from shared_attention.contract import Mechanism, Pair, Reducer
from shared_attention.registry import Card, card, cards

__all__ = ["Subject", "random_weights", "subjects", "variants"]

_GRIDS = {1: (19,), 2: (9, 10), 3: (5, 9, 6)}


def random_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """Move every parameter and running mean at random, so that nothing hides behind a first value of zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.2 * noise.to(parameter.dtype))
        for name, buffer in module.named_buffers():
            if name.endswith("running_mean"):
                buffer.add_(torch.randn(buffer.shape, generator=generator, dtype=torch.float64).to(buffer.dtype))
    return module


@dataclass(frozen=True)
class Subject:
    """One form of one mechanism.

    Args:
        name: Of the mechanism.
        rank: Grid axes.
        arguments: Given to the mechanism; the rest take their defaults.
        dim: Channels `C`.
    """

    name: str
    rank: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    dim: int = 16

    def __str__(self) -> str:
        words = [f"{key}={value}" for key, value in self.arguments.items()]
        return "-".join([self.name, f"{self.rank}D", *words]).replace(" ", "")

    @property
    def card(self) -> Card:
        """The mechanism's card."""
        return card(self.name)

    @property
    def grid(self) -> tuple[int, ...]:
        """A grid of uneven sizes that show the structure."""
        return _GRIDS[self.rank]

    def module(
        self, dtype: torch.dtype = torch.float32, *, training: bool = False, dim: int | None = None
    ) -> Mechanism:
        """The mechanism with random weights, the same at every call."""
        assert self.card.mechanism is not None
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            built = self.card.mechanism(self.dim, rank=self.rank, **self.arguments)
        random_weights(built)
        return built.to(dtype).train(training)

    def tokens(
        self, batch: int = 2, dtype: torch.dtype = torch.float32, *, grid: tuple[int, ...] | None = None, seed: int = 1
    ) -> Tensor:
        """Random tokens `(B, *S, C)`."""
        generator = torch.Generator().manual_seed(seed)
        shape = (batch, *(self.grid if grid is None else grid), self.dim)
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    def run(self, module: nn.Module, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
        """All floating point outputs; a pair sees the same tokens turned around as its second set."""
        inner = getattr(module, "_orig_mod", module)
        if isinstance(inner, Pair):
            return tuple(module(x, self.other(x), x_mask=mask, y_mask=mask))
        if isinstance(inner, Reducer):
            reduced = module(x, mask=mask)
            return reduced.tokens, reduced.sizes
        return (module(x, mask=mask),)

    @staticmethod
    def other(x: Tensor) -> Tensor:
        """The second token set that a pair is given beside `x`."""
        return x.flip(-1) * 0.7


def subjects(**arguments: Any) -> list[Subject]:
    """Every mechanism on every rank it serves, with its defaults."""
    return [Subject(name, rank, arguments) for name, one in cards().items() for rank in sorted(one.ranks)]


def variants() -> list[Subject]:
    """Every mechanism in its small form on one rank, and with each switch and each choice of words once turned."""
    found = []
    for name, one in cards().items():
        rank = 2 if 2 in one.ranks else max(one.ranks)
        found.append(Subject(name, rank, dict(one.small)))
        for key, argument in one.arguments.items():
            turned: list[bool | str] = [not argument.default] if isinstance(argument.default, bool) else []
            turned += [word for word in argument.choices if word != one.small.get(key, argument.default)]
            found += [Subject(name, rank, {**one.small, key: value}) for value in turned]
    return found
