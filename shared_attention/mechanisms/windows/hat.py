"""Window attention and, beside it, convolutions whose channels are weighed (HAT's hybrid attention).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("hat", 60, rank=2, window=8, shift="half")
>>> mixer(torch.zeros(1, 16, 20, 60)).shape  # (B, *S, C), any sizes
torch.Size([1, 16, 20, 60])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import positive
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.convolutions import Convolution
from shared_attention.mechanisms.windows.window import Window
from shared_attention.registry import Card, Source, register

__all__ = ["ChannelAttention", "Hat"]


class ChannelAttention(nn.Module):
    """Two convolutions, then each channel is weighed by what all channels hold on average (HAT's CAB).

    Args:
        dim: Channels.
        rank: Grid axes.
        compressed: Channels between the convolutions.
        squeezed: Channels between the layers that weigh.
    """

    def __init__(self, dim: int, *, rank: int, compressed: int, squeezed: int) -> None:
        super().__init__()
        self.first = Convolution(dim, compressed, rank=rank)
        self.second = Convolution(compressed, dim, rank=rank)
        self.squeeze = nn.Linear(dim, squeezed)
        self.excite = nn.Linear(squeezed, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, *S, C)` to the same; padded tokens are zero on the way in, whatever on the way out."""
        x = blank(self.second(blank(functional.gelu(self.first(x)), mask)), mask)
        mean = masked_mean(x, mask, tuple(range(1, x.ndim - 1)))  # (B, 1..., C)
        return x * self.excite(self.squeeze(mean).relu()).sigmoid()


@register(
    Card(
        name="hat",
        title="Hybrid attention (HAT)",
        paper="Chen et al., Activating More Pixels in Image Super-Resolution Transformer, CVPR 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C + 2*N*C**2*3**rank/ratio",
        formula="y = W-MSA(x) + weight · c ⊙ σ(W₂ relu(W₁ mean_N(c)))\n"
        "c = conv₃(GELU(conv₃(x)))                      C → C/ratio → C",
        source=Source("XPixelGroup/HAT", "1638a9a", "Apache-2.0"),
        fixtures=("hat_hab",),
        notes="The convolutions see what the windows see, not shifted, and are added with a small fixed weight. The "
        "published models have windows of 16, 180 channels, a ratio of 3 and a reduction of 30. Windows are those of "
        "`window`.",
        small={"window": 4},
        alternation=({"shift": 0}, {"shift": "half"}),
    )
)
class Hat(TokenMixer):
    """Shifted window attention plus convolutions with channel attention.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a window along each axis.
        shift: How far the windows are shifted along each axis, less than a window; `half` for half a window.
        ratio: The convolutions work on the channels divided by this.
        reduction: The channel attention works on the channels divided by this; None for 30, or less where that would
            leave fewer than four.
        weight: What the convolutions are multiplied by.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        window: int | tuple[int, ...] = 7,
        shift: int | tuple[int, ...] | Literal["half"] = 0,
        ratio: int = 3,
        reduction: int | None = None,
        weight: float = 0.01,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("ratio", ratio)
        squeezed = max(dim // 30, min(dim, 4))
        if reduction is not None:
            positive("reduction", reduction)
            squeezed = max(dim // reduction, 1)
        self.weight = weight
        self.attention = Window(
            dim, rank=rank, heads=heads, window=window, shift=shift, qkv_bias=qkv_bias, dropout=dropout
        )
        self.convolutions = ChannelAttention(dim, rank=rank, compressed=max(dim // ratio, 1), squeezed=squeezed)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.attention(x, mask=mask) + self.weight * self.convolutions(x, mask)
