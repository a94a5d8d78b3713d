"""Each share of the heads attends along one axis, in bars of the grid (CSWin).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("cswin", 64, rank=2, width=2)
>>> mixer(torch.zeros(1, 9, 6, 64)).shape  # (B, *S, C), any sizes
torch.Size([1, 9, 6, 64])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.grids import crop, merge, pad_to_multiple, partition, partition_map
from shared_attention.positions import LocalEnhancement
from shared_attention.registry import Card, Source, register

__all__ = ["CSWin"]


@register(
    Card(
        name="cswin",
        title="Cross-shaped windows (CSWin)",
        paper="Dong et al., CSWin Transformer: A General Vision Transformer Backbone with Cross-Shaped Windows, "
        "CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*N**(1/rank)*width**(rank-1)*C + N*3**rank*C",
        formula="heads shared out over the axes;  bar_a(i): all places along axis a, `width` wide along the others\n"
        "y_i = W (‖_a [ Σ_j softmax_{j ∈ bar_a(i)}(q_i · k_j / √D) v_j + dwconv₃(v inside the bar)_i ])",
        source=Source("microsoft/CSWin-Transformer", "f111ae2", "MIT"),
        fixtures=("cswin_block",),
        notes="The heads are shared out over the axes; those of an axis see bars that are as long as the grid along it "
        "and `width` wide along the others (on an image: vertical, then horizontal stripes). The authors' last stage "
        "is `width=None`. What the bars do not divide is padded and hidden, the authors require that they divide.",
        small={"width": 2, "heads": 4},
    )
)
class CSWin(TokenMixer):
    """Softmax attention in bars, with a depthwise convolution of the values inside each bar (LePE).

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels and at least one an axis; None for heads of about 32 channels.
        width: How many tokens wide a bar is; None for one bar that is the whole grid, seen by all heads.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        width: int | None = 7,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        bars = 1 if width is None else rank
        self.heads, self.head_dim = heads_of(dim, _shared(dim, bars) if heads is None else heads)
        if self.heads < bars:
            raise ValueError(f"heads {self.heads} is below {bars}, one for each axis")
        if width is not None and width < 1:
            raise ValueError(f"width {width} is not above zero")
        self.width = width
        self.dropout = dropout
        self.shares = [(self.heads + bar) // bars for bar in reversed(range(bars))]
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.position = nn.ModuleList(LocalEnhancement(share * self.head_dim, rank=rank) for share in self.shares)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        weights = self.qkv.weight.unflatten(0, (3, self.heads, -1)).split(self.shares, 1)
        biases = [None] * len(self.shares)
        if self.qkv.bias is not None:
            biases = [part.flatten() for part in self.qkv.bias.unflatten(0, (3, self.heads, -1)).split(self.shares, 1)]
        parts = []
        for axis, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            bar = tuple(
                size if one == axis or self.width is None else min(size, self.width) for one, size in enumerate(grid)
            )
            parts.append(self._in_bars(x, mask, bar, weight.flatten(0, 2), bias, axis))
        return self.proj(parts[0] if len(parts) == 1 else torch.cat(parts, -1))  # (B, *S, C)

    def _in_bars(
        self, x: Tensor, mask: Tensor | None, bar: tuple[int, ...], weight: Tensor, bias: Tensor | None, axis: int
    ) -> Tensor:
        """Attention of the heads of one axis: `(B, *S, C)` to `(B, *S, c)`, c their channels."""
        grid = x.shape[1:-1]
        x, mask = pad_to_multiple(x, bar, mask)
        padded = x.shape[1:-1]
        real = None if mask is None else partition_map(mask, bar)  # (B, G, n)
        qkv = functional.linear(partition(x, bar), weight, bias).unflatten(-1, (3, self.shares[axis], -1))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, G, h, n, D) each
        visible = None if real is None else real[:, :, None, None]  # (B, G, 1, 1, n)
        out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)
        values = blank(qkv[:, :, :, 2].flatten(3), real)  # (B, G, n, c)
        near = self.position[axis](values.flatten(0, 1).unflatten(1, bar)).view_as(values)
        return crop(merge(out.transpose(2, 3).flatten(3) + near, bar, padded), grid)


def _shared(dim: int, bars: int) -> int:
    """Heads of about 32 channels that share out evenly, where there are such."""
    every = [heads for heads in range(1, dim + 1) if dim % heads == 0]
    even = [heads for heads in every if heads % bars == 0] or [heads for heads in every if heads >= bars] or every
    return min(even, key=lambda heads: (abs(dim // heads - 32), heads))
