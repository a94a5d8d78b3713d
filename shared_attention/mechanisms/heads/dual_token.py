"""Tokens see what is near by a convolution, and all else through a few global tokens with places (DualToken-ViT).

>>> import torch
>>> from shared_attention import build
>>> build("dual_token", 64, rank=2, regions=4)(torch.zeros(2, 9, 12, 64)).shape  # (B, *S, C) stays
torch.Size([2, 9, 12, 64])
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution, channels_first, channels_last
from shared_attention.grids import pad_grid
from shared_attention.registry import Card, register

__all__ = ["DualToken"]

_POOLS: dict[int, Callable[..., Tensor]] = {
    1: functional.avg_pool1d,
    2: functional.avg_pool2d,
    3: functional.avg_pool3d,
}
_ADAPTIVE: dict[int, Callable[..., Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}


@register(
    Card(
        name="dual_token",
        title="Dual token fusion (DualToken-ViT), reconstructed",
        paper="Chu et al., DualToken-ViT: Position-aware Efficient Vision Transformer with Dual Token Fusion, "
        "arXiv:2309.12424",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="11*N*C**2 + 2*N*C*regions**rank + N*C*(7**rank + 3**rank)",
        formula="local = x + FFN(LN(dwconv(x)))\n"
        "s = x reduced step by step to `regions` places;  t = σ(a) ⊙ MSA(LN s) + (1 − σ(a)) ⊙ g\n"
        "t ← t + FFN(LN t)                              g: learned tokens that know their places\n"
        "y = local + W softmax(q(x) k(t)ᵀ / √D) v(t)",
        notes="UNVERIFIED: the authors published no code, and this follows a description in words (local part as in "
        "ConvNeXt; tokens reduced step by step, attention among them, a weighted sum with global tokens that know "
        "their places, a feed-forward part; broadcast to all tokens; sum of both). Ours are: the learned weight of "
        "each channel in that sum, the shared convolution before each halving, and global tokens of each layer's own "
        "where the paper hands them from layer to layer. The paper's attention after the feed-forward part is not "
        "included.",
        small={"regions": 3, "kernel": 3},
    )
)
class DualToken(TokenMixer):
    """A convolutional part, plus attention to a fixed number of global tokens that summarise the grid.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        regions: Global tokens along each axis.
        kernel: Size of the convolution of the local part, odd; None for 7, and for 3 in volumes.
        ratio: How many times wider the local part is inside.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        regions: int | tuple[int, ...] = 7,
        kernel: int | None = None,
        ratio: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, _ = heads_of(dim, heads)
        self.regions = per_axis("regions", regions, rank)
        kernel = (3 if rank == 3 else 7) if kernel is None else kernel
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        if ratio < 1:
            raise ValueError(f"ratio {ratio} is not above zero")
        self.dropout = dropout
        self.local = Convolution(dim, dim, rank=rank, kernel=kernel, groups=dim)
        self.local_norm = nn.LayerNorm(dim)
        self.local_feed = FeedForward(dim, hidden=ratio * dim)
        self.step = Convolution(dim, dim, rank=rank, groups=dim)
        self.summary_norm = nn.LayerNorm(dim)
        self.summary_qkv = nn.Linear(dim, 3 * dim)
        self.places = nn.Parameter(0.02 * torch.randn(prod(self.regions), dim))
        self.share = nn.Parameter(torch.zeros(dim))
        self.global_norm = nn.LayerNorm(dim)
        self.global_feed = FeedForward(dim, hidden=ratio * dim)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        local = x + self.local_feed(self.local_norm(self.local(x)))
        summary = self._global_tokens(x, mask)  # (B, K, C)
        k, v = self._heads(self.kv(summary)).chunk(2, 1)
        out = self._attend(self._heads(self.q(x).flatten(1, -2)), k, v, None)
        return local + self.proj(out.view_as(x))  # (B, *S, C)

    def _global_tokens(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """What the grid holds, at the places of the global tokens, joined with what they know: `(B, K, C)`."""
        real = x.new_ones((1, *x.shape[1:-1], 1)) if mask is None else mask.unsqueeze(-1).to(x.dtype)
        while any(size >= 2 * part for size, part in zip(x.shape[1:-1], self.regions, strict=True)):
            x = blank(x + self.step(x), real[..., 0] > 0)
            steps = [2 if size >= 2 * part else 1 for size, part in zip(x.shape[1:-1], self.regions, strict=True)]
            x, real = _halved(x, real, steps)
        x = blank(x + self.step(x), real[..., 0] > 0)
        x, real = _pooled(x, real, self.regions)
        tokens, seen = x.flatten(1, -2), real.flatten(1) > 0  # (B, K, C), (B or 1, K)
        q, k, v = self._heads(self.summary_qkv(self.summary_norm(tokens))).chunk(3, 1)
        found = self._attend(q, k, v, seen[:, None, None])
        share = self.share.sigmoid()
        both = share * found + (1 - share) * self.places
        return both + self.global_feed(self.global_norm(both))

    def _heads(self, tokens: Tensor) -> Tensor:
        """`(B, N, P * C)` to `(B, P * H, N, D)`."""
        return tokens.unflatten(-1, (-1, self.dim // self.heads)).transpose(1, 2)

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        out = attend(q, k, v, mask=mask, dropout=self.dropout if self.training else 0.0)
        return out.transpose(1, 2).flatten(2)  # (B, N, C)


def _halved(x: Tensor, real: Tensor, steps: list[int]) -> tuple[Tensor, Tensor]:
    """Means of the real tokens of small windows, and which windows hold any; windows reach beyond the grid's end."""
    grid = x.shape[1:-1]
    after = [-size % step for size, step in zip(grid, steps, strict=True)]
    nothing = [0] * len(grid)
    pool = _POOLS[len(grid)]
    summed = channels_last(pool(channels_first(pad_grid(x * real, nothing, after)), steps))
    share = channels_last(pool(channels_first(pad_grid(real, nothing, after)), steps))
    return summed / share.clamp(min=1e-6), (share > 0).to(x.dtype)


def _pooled(x: Tensor, real: Tensor, regions: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The same in so many regions along each axis, repeated where the grid is smaller."""
    pool = _ADAPTIVE[len(regions)]
    summed = channels_last(pool(channels_first(x * real), regions))
    share = channels_last(pool(channels_first(real), regions))
    return summed / share.clamp(min=1e-6), (share > 0).to(x.dtype)
