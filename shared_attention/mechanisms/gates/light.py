"""A gate of each channel, then a gate of each place, and nothing that compares pairs (a little bit of attention).

>>> import torch
>>> from shared_attention import build
>>> build("light", 64, rank=2)(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.convolutions import Convolution
from shared_attention.registry import Card, register

__all__ = ["LightAttention"]


@register(
    Card(
        name="light",
        title="Light attention block (LBA), reconstructed",
        paper="Eisenbach et al., A Little Bit Attention Is All You Need for Person Re-Identification, ICRA 2023",
        year=2023,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*C + 2*C**2/reduction + 2*N*kernel**rank",
        formula="g = 2 σ(W₂ ReLU(W₁ mean x))                 or 2 σ(conv₅(mean x)) along the channels\n"
        "z = g ⊙ x\n"
        "y = 2 σ(conv_k([mean_c z, max_c z])) ⊙ z",
        notes="No code was published, and only the abstract was at hand: what is certain is a channel gate and a "
        "spatial gate without pairwise relations. The factor 2 and last layers that start at zero are ours, so that "
        "a block put into a trained network starts as the identity.",
    )
)
class LightAttention(TokenMixer):
    """Weigh channels by what they hold on average, then places by the mean and the maximum of their channels.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        channel: How channels are weighed: `squeeze` through fewer of them, or `neighbours` by a convolution along them.
        reduction: Channels over those of the squeeze.
        kernel: Size of the spatial gate's convolution along each axis, odd.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        channel: Literal["squeeze", "neighbours"] = "squeeze",
        reduction: int = 16,
        kernel: int = 3,
    ) -> None:
        super().__init__(dim, rank=rank)
        if channel not in ("squeeze", "neighbours"):
            raise ValueError(f"channel {channel!r} is not one of squeeze, neighbours")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        if reduction < 1:
            raise ValueError(f"reduction {reduction} is not above zero")
        self.squeeze = nn.Linear(dim, max(1, dim // reduction)) if channel == "squeeze" else None
        self.expand = nn.Linear(max(1, dim // reduction), dim) if channel == "squeeze" else None
        self.along = nn.Conv1d(1, 1, 5, padding=2, bias=False) if channel == "neighbours" else None
        self.place = Convolution(2, 1, rank=rank, kernel=kernel, bias=False)
        for last in (self.expand, self.along, self.place.conv):
            if last is not None:
                nn.init.zeros_(last.weight)
                if last.bias is not None:
                    nn.init.zeros_(last.bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        mean = masked_mean(x, mask, tuple(range(1, x.ndim - 1)))  # (B, 1..., C)
        if self.squeeze is not None and self.expand is not None:
            weight = self.expand(self.squeeze(mean).relu())
        elif self.along is not None:
            weight = self.along(mean.flatten(1).unsqueeze(1)).view_as(mean)
        x = x * (2 * weight.sigmoid())
        seen = torch.cat([x.mean(-1, keepdim=True), x.amax(-1, keepdim=True)], -1)  # (B, *S, 2)
        return x * (2 * self.place(blank(seen, mask)).sigmoid())  # (B, *S, C)
