"""A stage of layers in which each looks at the grid and at a few tokens of every layer before it (FcaFormer).

>>> import torch
>>> from shared_attention import build
>>> stage = build("fcaformer", 32, rank=2, depth=3, grid=8)
>>> stage(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis, positive
from shared_attention.attend import attend
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.norms import BatchNorm
from shared_attention.positions import coordinates
from shared_attention.projections import join_heads, split_heads
from shared_attention.registry import Card, Source, register
from shared_attention.resizing import resized

__all__ = ["ForwardCross", "ForwardCrossLayer"]

_STEP, _SIZE = 4, 7
_COVER = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}


class ForwardCrossLayer(nn.Module):
    """Attention to the grid and to cross tokens, a convolution, and a feed-forward part.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads `H`.
        grid: Tokens along each axis that the learned biases are made for.
        before: Layers before whose cross tokens are looked at.
        merges: Whether this layer makes cross tokens for those after it.
        hidden: Channels inside the feed-forward part.
        layer_scale: First value of the learned scales of each channel.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int,
        grid: Sequence[int],
        before: int,
        merges: bool,
        hidden: int,
        layer_scale: float,
        qkv_bias: bool,
        dropout: float,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.table = nn.Parameter(torch.zeros(heads, *grid))  # by distance along each axis
        self.scale1 = nn.Parameter(torch.full((dim,), layer_scale))
        self.merge: Convolution | None = None
        if merges:
            self.merge = Convolution(
                dim, dim, rank=rank, kernel=_SIZE, stride=_STEP, padding=_SIZE // 2, groups=dim, bias=False
            )
        self.before = before
        if before:
            coarse = [-(-size // _STEP) for size in grid]
            self.cross_norm = nn.LayerNorm(dim)
            self.cross_bias = nn.Parameter(torch.zeros(heads, before, *coarse))
            self.cross_scale = nn.Parameter(torch.ones(before, *coarse))
        self.local = Convolution(dim, dim, rank=rank, groups=dim, bias=False)
        self.local_norm = BatchNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm3 = nn.LayerNorm(dim)
        self.feed_forward = FeedForward(dim, hidden=hidden)
        self.scale2 = nn.Parameter(torch.full((dim,), layer_scale))

    def forward(
        self, x: Tensor, mask: Tensor | None, cross: Sequence[Tensor], cross_mask: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """One layer.

        Args:
            x: `(B, *S, C)`, zero at padded tokens.
            mask: bool `(B, *S)`.
            cross: Cross tokens of the layers before, `(B, *R, C)` each.
            cross_mask: bool `(B, *R)`.

        Returns:
            `(B, *S, C)`, and this layer's cross tokens, None where no layer comes after it.
        """
        x = x + self.scale1 * self._attend(x, mask, cross, cross_mask)
        x = blank(x, mask)
        merged = None if self.merge is None else self.merge(x)  # (B, *R, C)
        x = self.local_norm(self.local(x), mask)
        return blank(x + self.scale2 * self.feed_forward(self.norm3(self.norm2(x))), mask), merged

    def _attend(self, x: Tensor, mask: Tensor | None, cross: Sequence[Tensor], cross_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        q, k, v = (split_heads(part, self.heads) for part in self.qkv(self.norm1(x)).chunk(3, -1))  # (B, H, N, D)
        bias, seen = self._bias(grid), None if mask is None else mask.flatten(1)  # (H, N, N), (B, N)
        if cross:
            coarse = cross[0].shape[1:-1]
            scale = resized(self.cross_scale.unsqueeze(0), coarse).squeeze(0).unsqueeze(-1)  # (L, *R, 1)
            tokens = torch.stack(list(cross), 1) * scale  # (B, L, *R, C)
            keys = self.qkv(self.cross_norm(tokens.flatten(1, -2)))  # (B, L * R, 3 C)
            _, cross_k, cross_v = (split_heads(part, self.heads) for part in keys.chunk(3, -1))
            k, v = torch.cat([k, cross_k], -2), torch.cat([v, cross_v], -2)
            added = resized(self.cross_bias, coarse).flatten(1).unsqueeze(1)  # (H, 1, L * R)
            bias = torch.cat([bias, added.expand(-1, bias.shape[1], -1)], -1)
            if seen is not None and cross_mask is not None:
                seen = torch.cat([seen, cross_mask.flatten(1).repeat(1, len(cross))], 1)
        visible = None if seen is None else seen[:, None, None]
        out = attend(q, k, v, mask=visible, bias=bias, dropout=self.dropout if self.training else 0.0)
        return self.proj(join_heads(out, grid))

    def _bias(self, grid: Sequence[int]) -> Tensor:
        """`(H, N, N)` from how far apart tokens are along each axis, whichever way."""
        places = coordinates(grid, self.table.device)
        apart = (places[:, None] - places[None, :]).abs()  # (N, N, rank)
        index = torch.zeros_like(apart[..., 0])
        for axis, size in enumerate(grid):
            index = index * size + apart[..., axis]
        return resized(self.table.unsqueeze(0), grid).flatten(2).squeeze(0)[:, index]


@register(
    Card(
        name="fcaformer",
        title="Forward cross attention (FcaFormer)",
        paper="Zhang et al., FcaFormer: Forward Cross Attention in Hybrid Vision Transformer, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="depth*(12*N*C**2 + 2*N**2*C) + depth**2*(N*C**2/4**rank + N**2*C/4**rank)",
        formula="layer l:  x ← x + s₁ ⊙ W softmax([q kᵀ / √D + B(|i − j|) ‖ q k_cᵀ / √D + b_c]) [v ; v_c]\n"
        "          c_l = dwconv₇, stride 4, of x;  k_c, v_c from LN(f ⊙ (c_{l−reach} … c_{l−1}))\n"
        "          x ← BN(dwconv₃(x));  x ← x + s₂ ⊙ FFN(LN(LN x))",
        source=Source("hkzhang91/FcaFormer", "7dcd8e0", "none"),
        fixtures=("fcaformer_layer",),
        notes="A whole stage: residuals and feed-forward parts are inside, and it gives the stage's tokens, not what "
        "to add to them. Cross tokens are taken after the attention and before the convolution, which has no "
        "residual. Their learned scale stands before a layer normalisation and does next to nothing, as released. "
        "Biases belong to `grid` and are resized to the grid at hand.",
        small={"grid": 8, "depth": 2},
    )
)
class ForwardCross(TokenMixer):
    """Layers of softmax attention to all tokens and to merged tokens of the layers before.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        depth: Layers of the stage.
        grid: Tokens along each axis that the learned biases are made for; others get them resized.
        reach: Layers before, at most, whose merged tokens a layer looks at.
        expansion: Channels inside the feed-forward parts for each of the tokens' channels.
        layer_scale: First value of the learned scales of each channel.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        depth: int = 2,
        grid: int | tuple[int, ...] = 14,
        reach: int = 12,
        expansion: float = 4.0,
        layer_scale: float = 1e-6,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        for name, value in (("depth", depth), ("reach", reach), ("expansion", expansion)):
            positive(name, value)
        heads, _ = heads_of(dim, heads)
        self.reach = reach
        self.layers = nn.ModuleList(
            [
                ForwardCrossLayer(
                    dim,
                    rank=rank,
                    heads=heads,
                    grid=per_axis("grid", grid, rank),
                    before=min(number, reach),
                    merges=number < depth - 1,
                    hidden=max(int(dim * expansion), 1),
                    layer_scale=layer_scale,
                    qkv_bias=qkv_bias,
                    dropout=dropout,
                )
                for number in range(depth)
            ]
        )

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        cross: list[Tensor] = []
        cross_mask = None
        if mask is not None:  # a merged token is real if any of the tokens under its kernel is
            cover = _COVER[self.rank](mask.unsqueeze(1).to(x.dtype), _SIZE, _STEP, _SIZE // 2)
            cross_mask = cover.squeeze(1) > 0
        for layer in self.layers:
            x, merged = layer(x, mask, cross[-self.reach :], cross_mask)
            if merged is not None:
                cross.append(merged)
        return x
