"""Tokens are weighed by Gaussians of their distance from the mean of all, channel by channel.

>>> import torch
>>> from shared_attention import build
>>> build("gaam_tokens", 64, rank=1, heads=2)(torch.zeros(2, 30, 64)).shape  # (B, *S, C) stays
torch.Size([2, 30, 64])
"""

from __future__ import annotations

from torch import Tensor

from shared_attention.contract import TokenMixer
from shared_attention.mechanisms.gates.gaam import Gaussians
from shared_attention.registry import Card, Source, register

__all__ = ["TokenGaussians"]


@register(
    Card(
        name="gaam_tokens",
        title="Gaussian adaptive attention over tokens (GAAM)",
        paper="Ioannides et al., Gaussian Adaptive Attention Is All You Need: Robust Contextual Representations Across"
        " Multiple Modalities, arXiv:2401.11143",
        year=2024,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="8*N*C",
        formula="z_g = (x − μ − d_g) / s            μ, s: mean and deviation of a channel over a stretch of tokens\n"
        "p = Π_g N(z_g; 0, c_g²);  y = x ⊙ p / Σ p      d_g, c_g learned; the sum runs over the stretch",
        source=Source("gioannides/Gaussian-Adaptive-Attention", "145d1bc", "Apache-2.0"),
        notes="`gaam` along the other axis; held against the same references, whose `norm_axis` may be any. A head is "
        "a stretch of tokens in row-major order, so order matters where there are several. Of a stretch, only real "
        "tokens count; where there are fewer tokens than heads, the last heads have none.",
        flat=True,
    )
)
class TokenGaussians(TokenMixer):
    """Scale each channel of the tokens by Gaussians of its distance from the mean over the tokens of a stretch.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Stretches that the tokens are cut into, the last takes what is left over.
        gaussians: Gaussians that are multiplied in each stretch.
        padding_value: Values that stay as they are and count as zeros in the mean; None for none.
    """

    def __init__(
        self, dim: int, *, rank: int, heads: int = 4, gaussians: int = 5, padding_value: float | None = None
    ) -> None:
        super().__init__(dim, rank=rank)
        self.gate = Gaussians(heads, gaussians, padding_value)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        real = None if mask is None else mask.flatten(1)[:, None]  # (B, 1, N)
        return self.gate(x.flatten(1, -2).transpose(1, 2), real).transpose(1, 2).view_as(x)  # (B, *S, C)
