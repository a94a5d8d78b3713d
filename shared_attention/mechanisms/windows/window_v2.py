"""Shifted windows with cosine attention and a bias that a network gives for each offset (Swin v2).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("window_v2", 32, rank=2, window=8, shift="half")
>>> mixer(torch.zeros(1, 9, 20, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 9, 20, 32])
"""

from __future__ import annotations

from math import log
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis
from shared_attention.attend import attend
from shared_attention.grouped import GroupedAttention, shift_of, shrunk
from shared_attention.positions import ContinuousBias
from shared_attention.registry import Card, Source, register

__all__ = ["WindowV2"]


@register(
    Card(
        name="window_v2",
        title="Shifted windows with cosine attention (Swin v2)",
        paper="Liu et al., Swin Transformer V2: Scaling Up Capacity and Resolution, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C",
        formula="y_i = W Σ_j softmax_{j ∈ window(i)}(e^τ cos(q_i, k_j) + 16 σ(MLP(log-spaced i − j))) v_j",
        source=Source("microsoft/Swin-Transformer", "f82860b", "MIT"),
        fixtures=("swinv2_window_attention", "swinv2_block"),
        notes="Made for a block that normalises after the mixer and after the feed-forward part. Keys have no additive "
        "bias; a head's scale is learned and ends at 100. With `trained_window` weights of one window serve another. "
        "Small grids and grids that the windows do not divide: as in `window`.",
        small={"window": 4},
        alternation=({"shift": 0}, {"shift": "half"}),
    )
)
class WindowV2(GroupedAttention):
    """Softmax attention among the tokens of each window by the cosine of queries and keys.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a window along each axis.
        shift: How far the windows are shifted along each axis, less than a window; `half` for half a window.
        trained_window: Window that the weights were trained with; None for the same.
        qkv_bias: Whether queries and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        window: int | tuple[int, ...] = 8,
        shift: int | tuple[int, ...] | Literal["half"] = 0,
        trained_window: int | tuple[int, ...] | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=False, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.shift = shift_of(self.window, shift)
        trained = None if trained_window is None else per_axis("trained_window", trained_window, rank)
        self.position = ContinuousBias(self.window, self.heads, trained=trained)
        self.scale = nn.Parameter(torch.full((self.heads,), log(10)))
        self.q_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None
        self.v_bias = nn.Parameter(torch.zeros(dim)) if qkv_bias else None

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        window, shift = shrunk(x.shape[1:-1], self.window, self.shift)
        return self.in_groups(x, mask, size=window, shift=shift, bias=self.position(window))

    def attend_windows(self, windows: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """As in `GroupedAttention`, by cosines."""
        shift = None
        if self.q_bias is not None and self.v_bias is not None:
            shift = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = functional.linear(windows, self.qkv.weight, shift).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, G, H, n, D) each
        least = max(1e-12, torch.finfo(q.dtype).tiny)  # so that a query of zeros is not 0 / 0 in half precision
        scale = self.scale.clamp(max=log(100)).exp()[:, None, None].to(q.dtype)
        q, k = functional.normalize(q, dim=-1, eps=least) * scale, functional.normalize(k, dim=-1, eps=least)
        out = attend(
            q, k.to(v.dtype), v, mask=mask, bias=bias, scale=1.0, dropout=self.dropout if self.training else 0.0
        )
        return self.proj(out.transpose(2, 3).flatten(3))
