"""Tokens gather into super tokens, these look at each other, and the tokens read them again (SViT).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("super_tokens", 32, rank=3, window=2)
>>> mixer(torch.zeros(2, 4, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 4, 5, 6, 32])
"""

from __future__ import annotations

from itertools import product
from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.convolutions import Convolution
from shared_attention.grids import (
    crop,
    gather_halo,
    group_grid,
    merge,
    pad_grid,
    partition,
    partition_map,
)
from shared_attention.norms import BatchNorm
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["SuperTokenBlock", "SuperTokens"]


@register(
    Card(
        name="super_tokens",
        title="Super token attention (SViT)",
        paper="Huang et al., Vision Transformer with Super Token Sampling, CVPR 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*3**rank*N*C + 4*N*C**2/window**rank + 2*N**2*C/window**(2*rank)",
        formula="s = means of x over cells of `window`;  Q = softmax over the 3^rank cells around (x sᵀ / √C)\n"
        "s = Qᵀ x / Qᵀ 1;   y = Q MSA(s)                Q, without a gradient, `iterations` times",
        source=Source("hhb072/STViT", "c9ed9a4", "MIT"),
        fixtures=("svit_sta", "svit_layer"),
        notes="A token belongs to the 3 to the power of rank super tokens around it. In the released code those "
        "beyond the border and the padding inside take part as zeros: `form=published`. With `form=masked`, the "
        "default, they do not. How much a token belongs where has no gradient, as in the released code. Logits of "
        "belonging are scaled by all channels.",
        small={"window": 2},
        stops_gradient=True,
    )
)
class SuperTokens(TokenMixer):
    """Soft assignment of tokens to the super tokens around them, attention among those, and the way back.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a super token along each axis; 1 for attention of the tokens themselves.
        iterations: Times that super tokens are gathered.
        refine: What happens among the super tokens.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
        form: Whether super tokens beyond the border, and padding inside, take part as zeros.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        window: int | tuple[int, ...] = 4,
        iterations: int = 1,
        refine: Literal["attention", "convolution", "none"] = "attention",
        qkv_bias: bool = False,
        dropout: float = 0.0,
        form: Literal["masked", "published"] = "masked",
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("iterations", iterations)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.window = per_axis("window", window, rank)
        self.iterations, self.refine, self.dropout, self.form = iterations, refine, dropout, form
        if refine == "attention":
            self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
            self.proj = nn.Linear(dim, dim)
        elif refine == "convolution":
            self.enter = nn.Linear(dim, dim)
            self.local = Convolution(dim, dim, rank=rank, kernel=5, groups=dim)
            self.leave = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        if all(part == 1 for part in self.window):
            return self._refined(x, mask)
        grid = x.shape[1:-1]
        window = self.window
        if self.form == "masked":
            window = tuple(min(pair) for pair in zip(window, grid, strict=True))
        after = [-size % part for size, part in zip(grid, window, strict=True)]
        real = mask
        if any(after) and (mask is not None or self.form == "masked"):
            inside = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
            real = pad_grid(inside.unsqueeze(-1), [0] * len(grid), after).squeeze(-1)
            if self.form == "published":  # padding made here counts, as zeros
                real = real | ~pad_grid(torch.ones_like(inside).unsqueeze(-1), [0] * len(grid), after).squeeze(-1)
        x = pad_grid(x, [0] * len(grid), after)
        pixels = partition(x, window)  # (B, G, n, C)
        counted = None if real is None else partition_map(real, window)  # (B, G, n)
        alive = None if counted is None else counted.any(-1).unflatten(1, group_grid(x.shape[1:-1], window))  # (B, *R)
        coarse = masked_mean(pixels, counted, (2,)).squeeze(2).unflatten(1, group_grid(x.shape[1:-1], window))
        with torch.no_grad():
            for number in range(self.iterations):
                shares = self._shares(pixels, coarse, counted, alive)  # (B, G, n, K)
                if number < self.iterations - 1:
                    coarse = self._gathered(pixels, shares, coarse.shape[1:-1])
        coarse = self._refined(self._gathered(pixels, shares, coarse.shape[1:-1]), alive)
        out = shares @ self._around(coarse)[0]  # (B, G, n, C)
        return crop(merge(out, window, x.shape[1:-1]), grid)

    def _around(self, coarse: Tensor, alive: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The super tokens around each `(B, G, K, C)`, zeros beyond the border, and which are real."""
        one = [1] * self.rank
        return gather_halo(coarse, one, one, alive)

    def _shares(self, pixels: Tensor, coarse: Tensor, counted: Tensor | None, alive: Tensor | None) -> Tensor:
        """How much each token belongs to each of the super tokens around it: `(B, G, n, K)`."""
        around, real = self._around(coarse, alive)
        logits = pixels @ around.transpose(-2, -1) * self.dim**-0.5
        shares = token_softmax(logits, mask=real.unsqueeze(2) if self.form == "masked" else None)
        return shares if counted is None else shares.masked_fill(~counted.unsqueeze(-1), 0.0)

    def _gathered(self, pixels: Tensor, shares: Tensor, grid: tuple[int, ...]) -> Tensor:
        """Super tokens `(B, *R, C)`: means of the tokens that belong to them."""
        sums = self._collected(shares.transpose(-2, -1) @ pixels, grid)
        return sums / (self._collected(shares.sum(2).unsqueeze(-1), grid) + 1e-12)

    def _collected(self, parts: Tensor, grid: tuple[int, ...]) -> Tensor:
        """What each group gives to those around it `(B, G, K, E)`, summed where it arrives: `(B, *R, E)`."""
        total = None
        for part, place in zip(parts.unbind(2), product(range(3), repeat=self.rank), strict=True):
            moved = pad_grid(part.unflatten(1, grid), place, [2 - step for step in place])
            total = moved if total is None else total + moved
        assert total is not None
        return crop(total, grid, centred=True)

    def _refined(self, x: Tensor, mask: Tensor | None) -> Tensor:
        if self.refine == "convolution":
            return self.leave(self.local(blank(self.enter(x), mask)))
        if self.refine == "none":
            return x
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(x).chunk(3, -1))  # (B, H, R, D)
        out = attend(q, k, v, mask=flat_mask(mask), dropout=self.dropout if self.training else 0.0)
        return self.proj(join_heads(out, x.shape[1:-1]))


class SuperTokenBlock(TokenMixer):
    """A convolution as position, super token attention, and a feed-forward part with a convolution inside.

    Args:
        mixer: Of the super tokens.
        hidden: Channels inside the feed-forward part.
        layer_scale: First value of a learned scale of each channel; None for no scale.
    """

    def __init__(self, mixer: SuperTokens, *, hidden: int, layer_scale: float | None = None) -> None:
        super().__init__(mixer.dim, rank=mixer.rank)
        self.position = Convolution(self.dim, self.dim, rank=self.rank, groups=self.dim)
        self.norm1 = nn.LayerNorm(self.dim, eps=1e-6)
        self.mixer = mixer
        self.norm2 = BatchNorm(self.dim)
        self.feed_forward = FeedForward(self.dim, hidden=hidden)
        self.local = Convolution(hidden, hidden, rank=self.rank, groups=hidden)
        scales = [None if layer_scale is None else nn.Parameter(torch.full((self.dim,), layer_scale)) for _ in range(2)]
        self.scale1, self.scale2 = scales

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        x = blank(x + self.position(x), mask)
        added = self.mixer(self.norm1(x), mask=mask)
        x = blank(x + (added if self.scale1 is None else added * self.scale1), mask)
        wide = blank(self.feed_forward.activation(self.feed_forward.expand(self.norm2(x, mask))), mask)
        added = self.feed_forward.contract(wide + self.local(wide))
        return x + (added if self.scale2 is None else added * self.scale2)
