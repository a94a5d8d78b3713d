"""Attention of few channels with its values as the residual, and the overlapping splits around it (T2T-ViT).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("tokens_to_token", 32, rank=2, hidden=8)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
>>> embed = SoftSplits(3, 64, rank=2, hidden=8)
>>> embed(torch.zeros(1, 40, 56, 3)).shape  # (B, *S, channels) to sixteen times fewer tokens an axis
torch.Size([1, 3, 4, 64])
"""

from __future__ import annotations

from math import prod
from typing import Literal

from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.attend import attend
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank
from shared_attention.grids import pad_grid
from shared_attention.mechanisms.approximate.performer import PositiveFeatures
from shared_attention.registry import Card, Source, register

__all__ = ["SoftSplits", "TokenBlock", "TokensToToken", "ValueAttention"]


class ValueAttention(nn.Module):
    """Softmax attention of one head that takes `(B, N, C)` to `(B, N, hidden)`, its values being the residual.

    Args:
        dim: Channels `C` in, which also set the scale of the logits.
        hidden: Channels of queries, keys and values, and out.
        scale: Factor of the logits; None for `dim ** -0.5`, as published.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(self, dim: int, hidden: int, *, scale: float | None = None, qkv_bias: bool = False) -> None:
        super().__init__()
        self.scale = dim**-0.5 if scale is None else scale
        self.qkv = nn.Linear(dim, 3 * hidden, bias=qkv_bias)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """`(B, N, C)` and bool `(B, N)` to `(B, N, hidden)`."""
        q, k, v = (part.unsqueeze(1) for part in self.qkv(x).chunk(3, -1))  # (B, 1, N, hidden) each
        visible = None if mask is None else mask[:, None, None]
        return (v + self.proj(attend(q, k, v, mask=visible, scale=self.scale))).squeeze(1)


@register(
    Card(
        name="tokens_to_token",
        title="Token transformer (T2T-ViT)",
        paper="Yuan et al., Tokens-to-Token ViT: Training Vision Transformers from Scratch on ImageNet, ICCV 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="4*N*C**2 + 2*N**2*C",
        formula="y = v + W softmax(q kᵀ / √C) v                 one head; form='paper': √hidden",
        source=Source("yitu-opensource/T2T-ViT", "0f63dc9", "BSD-3-Clause-Clear"),
        fixtures=("t2t_token_transformer", "t2t_module"),
        notes="One head; logits are scaled by the channels that come in, not by those of the head (`form=published`, "
        "the default); `form=paper` scales by those of the head. With `hidden` apart from the channels a linear layer "
        "brings the result back, where the authors go on with fewer channels. `SoftSplits` is the whole module from "
        "an image to tokens, with this or the performer, on one to three axes.",
        flat=True,
    )
)
class TokensToToken(TokenMixer):
    """Values plus softmax attention among all tokens, in one head of any width.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        hidden: Channels of queries, keys and values; None for as many as the tokens have.
        qkv_bias: Whether queries, keys and values have an additive bias.
        form: Logits scaled by the channels that come in (published) or by those of the head (paper).
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        hidden: int | None = None,
        qkv_bias: bool = False,
        form: Literal["published", "paper"] = "published",
    ) -> None:
        super().__init__(dim, rank=rank)
        hidden = dim if hidden is None else hidden
        positive("hidden", hidden)
        scale = hidden**-0.5 if form == "paper" else None
        self.attention = ValueAttention(dim, hidden, scale=scale, qkv_bias=qkv_bias)
        self.out = nn.Identity() if hidden == dim else nn.Linear(hidden, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        out = self.attention(x.flatten(1, -2), None if mask is None else mask.flatten(1))
        return self.out(out.unflatten(1, x.shape[1:-1]))


class TokenBlock(nn.Module):
    """LayerNorm and an attention whose values are the residual; LayerNorm and a feed-forward part.

    Args:
        attention: Takes `(B, N, C)` and a mask to `(B, N, hidden)`.
        dim: Channels `C` in.
        hidden: Channels out.
        feed_forward: Channels inside the feed-forward part; None for `hidden`.
    """

    def __init__(self, attention: nn.Module, dim: int, hidden: int, *, feed_forward: int | None = None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = attention
        self.norm2 = nn.LayerNorm(hidden)
        self.feed_forward = FeedForward(hidden, hidden=hidden if feed_forward is None else feed_forward)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, N, C)` and bool `(B, N)` to `(B, N, hidden)`."""
        x = self.attention(self.norm1(x), mask)
        return x + self.feed_forward(self.norm2(x))


class SoftSplits(nn.Module):
    """An image, line or volume to tokens: three overlapping splits, with attention after the first and the second.

    Args:
        channels: Of the image.
        dim: Channels of the tokens.
        rank: Axes of the image.
        hidden: Channels of the two attentions.
        attention: Softmax attention or Performer.
    """

    splits = ((7, 4, 2), (3, 2, 1), (3, 2, 1))
    """Size, step and padding of each split along each axis."""

    def __init__(
        self,
        channels: int,
        dim: int,
        *,
        rank: int,
        hidden: int = 64,
        attention: Literal["transformer", "performer"] = "transformer",
    ) -> None:
        super().__init__()
        make = {"transformer": ValueAttention, "performer": PositiveFeatures}
        if attention not in make:
            raise ValueError(f"attention {attention!r} is none of {', '.join(make)}")
        sizes = [channels * 7**rank, hidden * 3**rank]
        self.blocks = nn.ModuleList([TokenBlock(make[attention](size, hidden), size, hidden) for size in sizes])
        self.proj = nn.Linear(hidden * 3**rank, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, *S, channels)` and bool `(B, *S)` to `(B, *T, C)`, T about a sixteenth of S along each axis."""
        x, mask = self._split(blank(x, mask), mask, 0)
        for number, block in enumerate(self.blocks, start=1):
            out = block(x.flatten(1, -2), None if mask is None else mask.flatten(1))
            x, mask = self._split(blank(out.unflatten(1, x.shape[1:-1]), mask), mask, number)
        return blank(self.proj(x), mask)

    def _split(self, x: Tensor, mask: Tensor | None, number: int) -> tuple[Tensor, Tensor | None]:
        """Patches as tokens, the channels of a token in the order of channels and then of places."""
        size, step, padding = self.splits[number]
        x = _patches(x, size, step, padding)
        if mask is not None:
            mask = _patches(mask.unsqueeze(-1), size, step, padding).any(-1)
        return x, mask


def _patches(x: Tensor, size: int, step: int, padding: int) -> Tensor:
    grid = x.shape[1:-1]
    if min(grid) + 2 * padding < size:
        raise ValueError(f"a grid of {tuple(grid)} is below the {size - 2 * padding} tokens an axis of a split")
    x = pad_grid(x, [padding] * len(grid), [padding] * len(grid))
    for axis in range(1, len(grid) + 1):
        x = x.unfold(axis, size, step)  # (B, *T, C, *sizes)
    return x.reshape(*x.shape[: len(grid) + 1], x.shape[len(grid) + 1] * prod([size] * len(grid)))
