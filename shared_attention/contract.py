"""The four contracts: what goes into a mechanism, what comes out, and the one place where it is checked.

    TokenMixer   (B, *S, C)            -> (B, *S, C)      attention, its cheaper relatives, and gates
    Pool         (B, *S, C)            -> (B, K, C)       K learned or chosen summaries of all tokens
    Pair         (B, *S, C), (B, *T, E) -> the same two    two sets of tokens that look at each other
    Reducer      (B, *S, C)            -> Reduced         fewer tokens, and the way back to the grid

Tokens are channels-last, so the shape of a tensor is its grid: `*S` has one axis for a bag or sequence, two for an
image, three for a volume or clip. Masks are bool `(B, *S)`, True for a real token. A padded token comes in as
anything (also NaN) and goes out as zero, and changes no real token; a row without any real token gives zeros.

A subclass writes `mix` (or `pool`, `exchange`, `reduce`), where padded tokens are zero already and shapes are right:

>>> import torch
>>> class Mean(TokenMixer):
...     '''Every token becomes the mean of its row.'''
...     def mix(self, x, context, mask, context_mask):
...         axes = tuple(range(1, x.ndim - 1))
...         return masked_mean(x, mask, axes).expand_as(x)  # (B, *S, C)
>>> x = torch.tensor([[1.0, 3.0, float("nan")]]).unsqueeze(-1)  # (B, N, C) = (1, 3, 1)
>>> Mean(1, rank=1)(x, mask=torch.tensor([[True, True, False]])).flatten()
tensor([2., 2., 0.])
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from shared_attention.registry import Card

__all__ = [
    "Mechanism",
    "Pair",
    "Pool",
    "Reduced",
    "Reducer",
    "TokenMixer",
    "blank",
    "check_mask",
    "check_tokens",
    "masked_mean",
]


def check_tokens(x: Tensor, dim: int, rank: int | None, name: str = "x") -> None:
    """Raise a ValueError unless `x` is floating point `(B, *S, dim)` with `rank` axes in S (None: one to three)."""
    shape = tuple(x.shape)
    axes = len(shape) - 2
    if rank is not None and axes != rank:
        raise ValueError(f"{name} {shape} has {axes} grid axes, this was built for {rank}: (B, *S, {dim})")
    if not 1 <= axes <= 3:
        raise ValueError(f"{name} {shape} has {axes} grid axes, allowed are 1 to 3: (B, *S, {dim})")
    if shape[-1] != dim:
        raise ValueError(f"{name} {shape} has {shape[-1]} channels in its last axis, this was built for {dim}")
    if not x.is_floating_point():
        raise ValueError(f"{name} has dtype {x.dtype}, allowed are floating point dtypes")
    if 0 in shape:
        raise ValueError(f"{name} {shape} holds no tokens")


def check_mask(mask: Tensor | None, x: Tensor, name: str = "mask", of: str = "x") -> None:
    """Raise a ValueError unless `mask` is None or bool of the shape of `x` without its channels."""
    if mask is None:
        return
    if mask.dtype != torch.bool:
        raise ValueError(f"{name} has dtype {mask.dtype}, allowed is torch.bool with True for a real token")
    if mask.shape != x.shape[:-1]:
        raise ValueError(
            f"{name} {tuple(mask.shape)} does not fit {of} {tuple(x.shape)}: allowed is {tuple(x.shape[:-1])}"
        )
    if mask.device != x.device:
        raise ValueError(f"{name} is on {mask.device}, {of} is on {x.device}")


def blank(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x` with zeros (whatever stood there, NaN included) where `mask` is False; `x` itself without a mask."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(-1), 0.0)


def masked_mean(x: Tensor, mask: Tensor | None, axes: tuple[int, ...]) -> Tensor:
    """Mean over `axes` (kept with size one) of the real tokens; zero where there is none. Padded tokens must be 0."""
    if mask is None:
        return x.mean(axes, keepdim=True)
    count = mask.unsqueeze(-1).sum(axes, keepdim=True).clamp(min=1)
    return x.sum(axes, keepdim=True) / count.to(x.dtype)


class Mechanism(nn.Module, ABC):
    """What all four contracts share: channels, grid rank and the card.

    Args:
        dim: Channels `C`.
        rank: Grid axes, 1 to 3.

    Raises:
        ValueError: `dim` is not positive, or the card does not serve `rank`.
    """

    card: ClassVar[Card | None] = None
    """Set by `register`; None for a class that is not in the registry."""

    def __init__(self, dim: int, *, rank: int) -> None:
        super().__init__()
        if dim < 1:
            raise ValueError(f"dim {dim} is not above zero")
        served = frozenset({1, 2, 3}) if self.card is None else self.card.ranks
        if rank not in served:
            name = type(self).__name__ if self.card is None else self.card.name
            raise ValueError(f"{name} serves grids of {', '.join(map(str, sorted(served)))} axes, not {rank}")
        self.dim = dim
        self.rank = rank

    def extra_repr(self) -> str:
        return f"{self.dim}, rank={self.rank}"


class TokenMixer(Mechanism):
    """Tokens in, as many tokens out: `(B, *S, C)` to `(B, *S, C)`.

    Args:
        dim: Channels `C`.
        rank: Grid axes, 1 to 3.
        context_dim: Channels of the context, `dim` by default.
    """

    def __init__(self, dim: int, *, rank: int, context_dim: int | None = None) -> None:
        super().__init__(dim, rank=rank)
        self.context_dim = dim if context_dim is None else context_dim

    def forward(
        self,
        x: Tensor,
        context: Tensor | None = None,
        *,
        mask: Tensor | None = None,
        context_mask: Tensor | None = None,
    ) -> Tensor:
        """Mix the tokens.

        Args:
            x: `(B, *S, C)`, floating point.
            context: `(B, *T, E)`, what the tokens look at instead of themselves; only where the card's patterns name
                `cross`.
            mask: bool `(B, *S)`, True for a real token.
            context_mask: bool `(B, *T)`, True for a real token of the context.

        Returns:
            `(B, *S, C)`, zero at padded tokens.

        Raises:
            ValueError: A shape, dtype or device does not fit, or a context is given to a mechanism without one.
        """
        check_tokens(x, self.dim, self.rank)
        check_mask(mask, x)
        if context is not None:
            self._check_context(x, context)
            check_mask(context_mask, context, "context_mask", "context")
            context = blank(context, context_mask)
        elif context_mask is not None:
            raise ValueError("context_mask is given without a context")
        return blank(self.mix(blank(x, mask), context, mask, context_mask), mask)

    @abstractmethod
    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        """The mechanism itself, on checked input whose padded tokens are zero; what it leaves in padded tokens is
        blanked.
        """

    def _check_context(self, x: Tensor, context: Tensor) -> None:
        if self.card is not None and not self.card.crosses:
            raise ValueError(f"{self.card.name} takes no context; its patterns are {', '.join(self.card.patterns)}")
        check_tokens(context, self.context_dim, None, "context")
        if context.shape[0] != x.shape[0]:
            raise ValueError(
                f"context {tuple(context.shape)} has a batch of {context.shape[0]}, x {tuple(x.shape)} has {x.shape[0]}"
            )


class Pool(Mechanism):
    """All tokens in, `K` summaries out: `(B, *S, C)` to `(B, K, C)`."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None) -> Tensor:
        """Summarise the tokens.

        Args:
            x: `(B, *S, C)`, floating point.
            mask: bool `(B, *S)`, True for a real token.

        Returns:
            `(B, K, C)`; zeros for a row without a real token.
        """
        check_tokens(x, self.dim, self.rank)
        check_mask(mask, x)
        out = self.pool(blank(x, mask), mask)  # (B, K, C)
        return out if mask is None else out * mask.flatten(1).any(1)[:, None, None]

    @abstractmethod
    def pool(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """The mechanism itself, on checked input whose padded tokens are zero; finite also for a row without a real
        token.
        """


class Pair(Mechanism):
    """Two token sets in, the same two out, each having looked at the other.

    Args:
        dim: Channels `C` of the first.
        rank: Grid axes of the first.
        other_dim: Channels `E` of the second, `dim` by default.
    """

    def __init__(self, dim: int, *, rank: int, other_dim: int | None = None) -> None:
        super().__init__(dim, rank=rank)
        self.other_dim = dim if other_dim is None else other_dim

    def forward(
        self, x: Tensor, y: Tensor, *, x_mask: Tensor | None = None, y_mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Let two sets of tokens look at each other.

        Args:
            x: `(B, *S, C)`, floating point.
            y: `(B, *T, E)`, floating point.
            x_mask: bool `(B, *S)`, True for a real token.
            y_mask: bool `(B, *T)`, True for a real token.

        Returns:
            Two tensors of the shapes of `x` and `y`, zero at padded tokens.
        """
        check_tokens(x, self.dim, self.rank)
        check_tokens(y, self.other_dim, None, "y")
        if x.shape[0] != y.shape[0]:
            raise ValueError(f"y {tuple(y.shape)} has a batch of {y.shape[0]}, x {tuple(x.shape)} has {x.shape[0]}")
        check_mask(x_mask, x, "x_mask")
        check_mask(y_mask, y, "y_mask", "y")
        new_x, new_y = self.exchange(blank(x, x_mask), blank(y, y_mask), x_mask, y_mask)
        return blank(new_x, x_mask), blank(new_y, y_mask)

    @abstractmethod
    def exchange(self, x: Tensor, y: Tensor, x_mask: Tensor | None, y_mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The mechanism itself, on checked input whose padded tokens are zero."""


class Reduced(NamedTuple):
    """Fewer tokens, and the way back to the grid they came from."""

    tokens: Tensor
    """`(B, K, C)`."""
    sizes: Tensor
    """`(B, K)` floating point: how many of the input's tokens each stands for; zero for one that stands for none."""
    source: Tensor
    """`(B, N)` int64: which of the K each input token went to, N the product of the grid; -1 for one that was
    dropped.
    """

    def restore(self, tokens: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Spread `(B, K, E)` back to `(B, *grid, E)`: each input token gets the token it went to, a dropped one
        zeros.
        """
        index = self.source.clamp(min=0).unsqueeze(-1).expand(-1, -1, tokens.shape[-1])  # (B, N, E)
        spread = torch.gather(tokens, 1, index).masked_fill((self.source < 0).unsqueeze(-1), 0.0)
        return spread.unflatten(1, grid)  # (B, *grid, E)


class Reducer(Mechanism):
    """Many tokens in, fewer out, with what it takes to go back."""

    def forward(self, x: Tensor, *, mask: Tensor | None = None, sizes: Tensor | None = None) -> Reduced:
        """Reduce the tokens.

        Args:
            x: `(B, *S, C)`, floating point.
            mask: bool `(B, *S)`, True for a real token.
            sizes: `(B, *S)` floating point, how many tokens each stands for already; ones by default.
        """
        check_tokens(x, self.dim, self.rank)
        check_mask(mask, x)
        if sizes is None:
            sizes = torch.ones(x.shape[:-1], dtype=x.dtype, device=x.device)
        elif sizes.shape != x.shape[:-1]:
            raise ValueError(
                f"sizes {tuple(sizes.shape)} does not fit x {tuple(x.shape)}: allowed is {tuple(x.shape[:-1])}"
            )
        return self.reduce(blank(x, mask), mask, sizes if mask is None else sizes * mask)

    @abstractmethod
    def reduce(self, x: Tensor, mask: Tensor | None, sizes: Tensor) -> Reduced:
        """The mechanism itself, on checked input whose padded tokens are zero and of size zero."""
