"""Each channel is weighed by what it and its neighbours hold on average (ECA).

>>> import torch
>>> from shared_attention import build
>>> build("eca", 64, rank=3)(torch.zeros(2, 4, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 4, 5, 6, 64])
"""

from __future__ import annotations

from math import log2

from torch import Tensor, nn

from shared_attention.contract import TokenMixer, masked_mean
from shared_attention.registry import Card, Source, register

__all__ = ["EfficientChannelAttention"]


@register(
    Card(
        name="eca",
        title="Efficient channel attention (ECA)",
        paper="Wang et al., ECA-Net: Efficient Channel Attention for Deep Convolutional Neural Networks, CVPR 2020",
        year=2020,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="2*N*C",
        formula="m = mean_N(x)                                  (C)\n"
        "y_i = x_i ⊙ σ(conv_k(m))                       the convolution runs along the channels",
        source=Source("BangguWu/ECANet", "b332f6b", "MIT"),
        fixtures=("eca",),
        notes="The published class takes the kernel as an argument; None chooses it by the paper's rule, the odd "
        "number at or above (log2 C + 1) / 2.",
        flat=True,
    )
)
class EfficientChannelAttention(TokenMixer):
    """Scale channels by the sigmoid of a convolution, along the channels, of their means over all real tokens.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        kernel: Channels that weigh one, odd; None for the paper's rule.
    """

    def __init__(self, dim: int, *, rank: int, kernel: int | None = None) -> None:
        super().__init__(dim, rank=rank)
        if kernel is None:
            kernel = int(abs(log2(dim) + 1) / 2) // 2 * 2 + 1
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        self.conv = nn.Conv1d(1, 1, kernel, padding=kernel // 2, bias=False)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        mean = masked_mean(x, mask, tuple(range(1, x.ndim - 1)))  # (B, 1..., C)
        weight = self.conv(mean.flatten(1).unsqueeze(1)).sigmoid()  # (B, 1, C)
        return x * weight.view_as(mean)  # (B, *S, C)
