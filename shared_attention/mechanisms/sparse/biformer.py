"""Regions of the grid choose the regions that their tokens look at (BiFormer).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("biformer", 32, rank=2, regions=3, top_k=2)
>>> mixer(torch.zeros(2, 10, 7, 32)).shape  # (B, *S, C)
torch.Size([2, 10, 7, 32])
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.convolutions import Convolution
from shared_attention.grids import crop, merge, pad_grid, partition, partition_map, region_size
from shared_attention.registry import Card, Source, register

__all__ = ["BiLevelRouting"]

_POOLS: dict[str, tuple[Callable[..., Tensor], ...]] = {
    "average": (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d),
    "maximum": (functional.max_pool1d, functional.max_pool2d, functional.max_pool3d),
    "adaptive_average": (
        functional.adaptive_avg_pool1d,
        functional.adaptive_avg_pool2d,
        functional.adaptive_avg_pool3d,
    ),
    "adaptive_maximum": (
        functional.adaptive_max_pool1d,
        functional.adaptive_max_pool2d,
        functional.adaptive_max_pool3d,
    ),
}


class _Regions(NamedTuple):
    """The padded grid cut into regions."""

    q: Tensor
    """`(B, G, n, K)`."""
    kv: Tensor
    """`(B, G, n, K + C)`."""
    seen: Tensor | None
    """bool `(B, G, n)`, tokens that may be looked at."""
    averaged: Tensor | None
    """bool `(B, G, n)`, tokens that count in the means of regions."""
    around: Tensor
    """`(B, *P, C)`, values on the padded grid."""
    window: tuple[int, ...]


@register(
    Card(
        name="biformer",
        title="Bi-level routing attention (BiFormer)",
        paper="Zhu et al., BiFormer: Vision Transformer with Bi-Level Routing Attention, CVPR 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + regions**(2*rank)*C + 2*N**2*C*top_k/regions**rank",
        formula="q̄_r, k̄_r = means of q and k over region r\n"
        "I(r) = the top_k regions s with the largest q̄_r · k̄_s\n"
        "y_i = W (Σ_j softmax_{j ∈ I(r(i))}(q_i · k_j / √C) v_j + dwconv(v)_i)",
        source=Source("rayleizhu/BiFormer", "1697bbb", "MIT"),
        fixtures=("biformer_bra", "biformer_bra_nchw"),
        notes="Logits are scaled by all key channels, not by those of a head. Where the regions do not divide the "
        "grid, `form=masked` (default) pads it and hides the padding, `form=legacy` pads before the projection and "
        "lets the padding be seen, biases and all, and `form=nchw` takes smaller regions, as many as it takes, and "
        "lets zeros be seen: the two released versions. Where they divide it, all three agree. The choice of regions "
        "has no gradient.",
        small={"regions": 3, "top_k": 2, "kernel": 3},
        selects=True,
    )
)
class BiLevelRouting(TokenMixer):
    """Softmax attention of the tokens of a region to those of the few regions whose mean key suits its mean query.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        regions: Regions along each axis.
        top_k: Regions that a region looks at.
        kernel: Size of a depthwise convolution of the values that is added, odd; 0 for none.
        key_dim: Channels of queries and keys, a multiple of the heads; None for as many as the tokens have.
        scale: Factor of the logits; None for one over the root of the key channels.
        pool: How keys and values of a region are pooled.
        ratio: Tokens along each axis that `average` and `maximum` make one of.
        cells: Tokens along each axis that are left of a region by `adaptive_average` and `adaptive_maximum`.
        soft: Whether what is looked at is multiplied by the weight of its region.
        form: What is done where regions do not divide the grid.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        regions: int | tuple[int, ...] = 7,
        top_k: int = 4,
        kernel: int = 5,
        key_dim: int | None = None,
        scale: float | None = None,
        pool: Literal["none", "average", "maximum", "adaptive_average", "adaptive_maximum"] = "none",
        ratio: int = 4,
        cells: int = 4,
        soft: bool = False,
        form: Literal["masked", "legacy", "nchw"] = "masked",
    ) -> None:
        super().__init__(dim, rank=rank)
        for name, value in (("top_k", top_k), ("ratio", ratio), ("cells", cells)):
            positive(name, value)
        if kernel < 0 or (kernel and kernel % 2 == 0):
            raise ValueError(f"kernel {kernel} is neither odd nor 0")
        self.heads, _ = heads_of(dim, heads)
        self.key_dim = dim if key_dim is None else key_dim
        heads_of(self.key_dim, self.heads)
        self.regions = per_axis("regions", regions, rank)
        self.top_k, self.pool, self.ratio, self.cells, self.soft, self.form = top_k, pool, ratio, cells, soft, form
        self.scale = self.key_dim**-0.5 if scale is None else scale
        self.qkv = nn.Linear(dim, 2 * self.key_dim + dim)
        self.proj = nn.Linear(dim, dim)
        self.local = Convolution(dim, dim, rank=rank, kernel=kernel, groups=dim) if kernel else None

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        cut = self._cut(x, mask)
        weights, index = self._route(cut)  # (B, G, k) each
        kv, seen = (cut.kv, cut.seen) if self.pool == "none" else self._pooled(cut.kv, cut.seen, cut.window)
        kv = _chosen(kv, index)  # (B, G, k, m, K + C)
        if self.soft:
            kv = kv * weights[..., None, None].to(kv.dtype)
        keys = None if seen is None else _chosen(seen, index).flatten(-2)[:, :, None, None]  # (B, G, 1, 1, k * m)
        k, v = kv.flatten(2, 3).split([self.key_dim, self.dim], -1)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(2, 3) for part in (cut.q, k, v))  # (B, G, H, ., D)
        out = attend(q, k, v, mask=keys, scale=self.scale).transpose(2, 3).flatten(3)  # (B, G, n, C)
        out = merge(out, cut.window, cut.around.shape[1:-1])
        if self.local is not None:
            out = out + self.local(cut.around)
        return self.proj(crop(out, grid))

    def route(self, x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Weights and numbers of the regions that each region looks at, best first: `(B, G, k)` each."""
        return self._route(self._cut(blank(x, mask), mask))

    def _cut(self, x: Tensor, mask: Tensor | None) -> _Regions:
        grid = x.shape[1:-1]
        if self.form == "legacy":
            window = tuple(-(-size // count) for size, count in zip(grid, self.regions, strict=True))
            whole = [part * count for part, count in zip(window, self.regions, strict=True)]
        else:
            window = region_size(grid, self.regions)
            if self.form == "nchw":
                window = tuple(max(size // count, 1) for size, count in zip(grid, self.regions, strict=True))
            whole = [-(-size // part) * part for size, part in zip(grid, window, strict=True)]
        before, after = [0] * len(grid), [full - size for full, size in zip(whole, grid, strict=True)]
        seen = averaged = mask
        if any(after):
            inside = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
            averaged = pad_grid(inside.unsqueeze(-1), before, after).squeeze(-1)
            added = ~pad_grid(torch.ones_like(inside).unsqueeze(-1), before, after).squeeze(-1)
            seen = averaged if self.form == "masked" else averaged | added
            averaged = seen if self.form == "legacy" else averaged
        if self.form == "legacy":
            qkv = blank(self.qkv(pad_grid(x, before, after)), seen)
        else:
            qkv = pad_grid(blank(self.qkv(x), mask), before, after)
        q, kv = partition(qkv, window).split([self.key_dim, self.key_dim + self.dim], -1)
        seen, averaged = (None if part is None else partition_map(part, window) for part in (seen, averaged))
        return _Regions(q, kv, seen, averaged, qkv[..., 2 * self.key_dim :], window)

    def _route(self, cut: _Regions) -> tuple[Tensor, Tensor]:
        parts = cut.q.detach(), cut.kv[..., : self.key_dim].detach()
        q, k = (masked_mean(part, cut.averaged, (2,)).squeeze(2) for part in parts)  # (B, G, K)
        logits = q * self.scale @ k.transpose(-2, -1)  # (B, G, G)
        alive = None if cut.averaged is None else cut.averaged.any(-1)  # (B, G)
        if alive is not None:
            logits = logits.masked_fill(~alive.unsqueeze(1), torch.finfo(logits.dtype).min)
        logits, index = logits.topk(min(self.top_k, logits.shape[-1]))  # (B, G, k)
        return token_softmax(logits, mask=None if alive is None else _chosen(alive, index)), index

    def _pooled(self, kv: Tensor, seen: Tensor | None, window: tuple[int, ...]) -> tuple[Tensor, Tensor | None]:
        """Keys and values of each region `(B, G, n, E)` pooled to `(B, G, m, E)`, and which of them hold a token."""
        axes = len(window)
        size = self.cells if self.pool.startswith("adaptive") else [min(self.ratio, part) for part in window]
        pool = _POOLS[self.pool][axes - 1]
        maps = kv.flatten(0, 1).transpose(1, 2).unflatten(-1, window)  # (B * G, E, *window)
        if seen is None:
            return pool(maps, size).flatten(2).transpose(1, 2).unflatten(0, kv.shape[:2]), None
        real = seen.flatten(0, 1).unsqueeze(1).unflatten(-1, window).to(maps.dtype)  # (B * G, 1, *window)
        if self.pool.endswith("maximum"):
            share = pool(real, size)
            maps = pool(maps.masked_fill(real == 0, torch.finfo(maps.dtype).min), size).masked_fill(share == 0, 0.0)
        else:
            share = pool(real, size)
            maps = pool(maps * real, size) / share.masked_fill(share == 0, 1.0)
        held = (share.flatten(2).squeeze(1) > 0).unflatten(0, kv.shape[:2])  # (B, G, m)
        return maps.flatten(2).transpose(1, 2).unflatten(0, kv.shape[:2]), held


def _chosen(values: Tensor, index: Tensor) -> Tensor:
    """Of values by region `(B, G, ...)` those of the regions `(B, G, k)`: `(B, G, k, ...)`."""
    batch, count = values.shape[:2]
    start = torch.arange(batch, device=index.device)[:, None, None] * count
    return values.flatten(0, 1).index_select(0, (index + start).flatten()).unflatten(0, index.shape)
