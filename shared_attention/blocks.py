"""A mixer with what stands around it in a published block: normalisation, residuals, a feed-forward part.

>>> import torch
>>> from shared_attention import build
>>> block = Block(build("window", 32, rank=2, window=4), FeedForward(32, hidden=64))
>>> block(torch.zeros(2, 6, 9, 32)).shape  # (B, *S, C) stays
torch.Size([2, 6, 9, 32])

A block is a mixer itself: it takes masks and a context, and is inert to padding.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.contract import TokenMixer, blank
from shared_attention.norms import BatchNorm, GroupNorm, NormName, make_norm
from shared_attention.positions import LocalEnhancement

__all__ = ["Activation", "Block", "FeedForward", "make_activation"]

Activation = Literal["gelu", "gelu_tanh", "relu", "silu", "hardswish"]

_ACTIVATIONS = {
    "gelu": lambda: nn.GELU(),
    "gelu_tanh": lambda: nn.GELU(approximate="tanh"),
    "relu": lambda: nn.ReLU(),
    "silu": lambda: nn.SiLU(),
    "hardswish": lambda: nn.Hardswish(),
}


def make_activation(name: Activation) -> nn.Module:
    """An activation by its name."""
    if name not in _ACTIVATIONS:
        raise ValueError(f"no activation is called {name!r}; there are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]()


class FeedForward(nn.Module):
    """Two linear layers on each token, under `expand` and `contract`.

    Args:
        dim: Channels `C`.
        hidden: Channels in between, four times `C` by default.
        activation: Between the two.
        bias: Whether the layers have an additive bias.
    """

    def __init__(
        self, dim: int, *, hidden: int | None = None, activation: Activation = "gelu", bias: bool = True
    ) -> None:
        super().__init__()
        hidden = 4 * dim if hidden is None else hidden
        self.expand = nn.Linear(dim, hidden, bias=bias)
        self.activation = make_activation(activation)
        self.contract = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.contract(self.activation(self.expand(x)))  # (..., C)


class Block(TokenMixer):
    """A mixer and a feed-forward part, each with a normalisation, a scale and a residual.

    `pre`: `x + s * mixer(norm(x))`; `post`: `x + s * norm(mixer(x))`. Parameters stand under `mixer`, `norm1`,
    `scale1`, `feed_forward`, `norm2`, `scale2`, `encode1`, `encode2`.

    Args:
        mixer: What mixes the tokens.
        feed_forward: What follows, on each token; None for nothing.
        norm: Which normalisation.
        placement: Normalise before or after the mixer and the feed-forward part.
        layer_scale: First value of a learned scale of each channel; None for no scale.
        eps: Of the normalisation, its own default where left out.
        encode: Whether a depthwise convolution is added to the tokens before each of the two parts, which tells places
            to a mixer that does not know them.
    """

    def __init__(
        self,
        mixer: TokenMixer,
        feed_forward: nn.Module | None = None,
        *,
        norm: NormName = "layer",
        placement: Literal["pre", "post"] = "pre",
        layer_scale: float | None = None,
        eps: float | None = None,
        encode: bool = False,
    ) -> None:
        super().__init__(mixer.dim, rank=mixer.rank, context_dim=mixer.context_dim)
        self.placement = placement
        self.mixer = mixer
        self.norm1 = make_norm(norm, self.dim, eps=eps)
        self.feed_forward = feed_forward
        self.norm2 = None if feed_forward is None else make_norm(norm, self.dim, eps=eps)
        self.scale1 = self._scale(layer_scale)
        self.scale2 = None if feed_forward is None else self._scale(layer_scale)
        self.encode1 = LocalEnhancement(self.dim, rank=self.rank) if encode else None
        self.encode2 = LocalEnhancement(self.dim, rank=self.rank) if encode else None

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        if self.encode1 is not None:
            x = blank(x + self.encode1(x), mask)
        if self.placement == "pre":
            added = self.mixer(_normed(self.norm1, x, mask), context, mask=mask, context_mask=context_mask)
        else:
            added = _normed(self.norm1, self.mixer(x, context, mask=mask, context_mask=context_mask), mask)
        x = x + (added if self.scale1 is None else added * self.scale1)
        if self.encode2 is not None:
            x = x + self.encode2(blank(x, mask))
        if self.feed_forward is None or self.norm2 is None:
            return x
        if self.placement == "pre":
            added = self.feed_forward(_normed(self.norm2, x, mask))
        else:
            added = _normed(self.norm2, blank(self.feed_forward(x), mask), mask)
        return x + (added if self.scale2 is None else added * self.scale2)  # (B, *S, C)

    def _scale(self, value: float | None) -> nn.Parameter | None:
        return None if value is None else nn.Parameter(torch.full((self.dim,), value))


def _normed(norm: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    if isinstance(norm, (GroupNorm, BatchNorm)):
        return norm(blank(x, mask), mask)
    return norm(x)
