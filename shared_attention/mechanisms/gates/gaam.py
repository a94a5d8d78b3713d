"""Channels are weighed by Gaussians of their distance from their token's mean (Gaussian adaptive attention).

>>> import torch
>>> from shared_attention import build
>>> build("gaam", 64, rank=2, heads=4)(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from shared_attention.arguments import positive
from shared_attention.contract import TokenMixer
from shared_attention.registry import Card, Source, register

__all__ = ["ChannelGaussians", "Gaussians"]

_EPS = 1e-8


class Gaussians(nn.Module):
    """Scale values by a product of Gaussians of how far they lie from their mean; the weights of a part sum to one.

    The product of Gaussians with centres `d` and widths `c` is, but for a factor that all values share, one Gaussian:
    its precision is the sum of `1 / c**2`, its centre the mean of `d` weighed by them. So the work does not grow with
    their number.

    Args:
        heads: Parts that the last axis is cut into, each with its own Gaussians; the last part is the longest.
        gaussians: Gaussians of each part.
        padding_value: Values that stay as they are and count as zeros in the mean; None for none.
    """

    def __init__(self, heads: int, gaussians: int, padding_value: float | None = None) -> None:
        super().__init__()
        positive("heads", heads)
        positive("gaussians", gaussians)
        self.padding_value = padding_value
        self.offsets = nn.Parameter(torch.zeros(heads, gaussians))
        self.widths = nn.Parameter(math.sqrt(gaussians) * (0.1 * torch.randn(heads, gaussians)).exp())

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(..., n)` to the same; `mask` is bool and broadcastable, True for what is real."""
        out = x * self.weights(x, mask)
        return out if self.padding_value is None else torch.where(x == self.padding_value, x, out)

    def weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """What `(..., n)` is scaled by; the parts of the last axis sum to one each."""
        parts = min(len(self.offsets), x.shape[-1])
        size = x.shape[-1] // parts
        sizes = [size] * (parts - 1) + [x.shape[-1] - size * (parts - 1)]
        masks = [None] * parts if mask is None else mask.split(sizes, -1)
        return torch.cat([self._part(*both) for both in zip(range(parts), x.split(sizes, -1), masks, strict=True)], -1)

    def _part(self, part: int, x: Tensor, mask: Tensor | None) -> Tensor:
        values = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        offsets, widths = self.offsets[part].to(values.dtype), self.widths[part].to(values.dtype)
        precisions = widths.square().reciprocal()
        precision = precisions.sum()
        centre = (precisions * offsets).sum() / precision
        apart = (precisions * (offsets - centre).square()).sum()  # what the centres lose by not being one
        mean, deviation = self._moments(values, mask)
        far = precision * ((values - mean - centre) / deviation).square() + apart / deviation.square()
        logits = 0.5 * ((precisions / (2 * math.pi)).log().sum() - far)
        if mask is not None:
            logits = logits.masked_fill(~mask, torch.finfo(logits.dtype).min)
        total = logits.logsumexp(-1, keepdim=True).clamp(min=math.log(_EPS))
        return (logits - total).exp().to(x.dtype)

    def _moments(self, values: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Mean and unbiased deviation of the real values `(..., 1)`; of a single value the deviation is about zero."""
        if self.padding_value is not None:
            values = values.masked_fill(values == self.padding_value, 0.0)
        if mask is None:
            variance, mean = torch.var_mean(values, -1, correction=min(1, values.shape[-1] - 1), keepdim=True)
        else:
            count = mask.sum(-1, keepdim=True)
            mean = values.masked_fill(~mask, 0.0).sum(-1, keepdim=True) / count.clamp(min=1)
            squares = (values - mean).masked_fill(~mask, 0.0).square().sum(-1, keepdim=True)
            variance = squares / (count - 1).clamp(min=1)
        return mean, (variance + _EPS).sqrt()


@register(
    Card(
        name="gaam",
        title="Gaussian adaptive attention over channels (GAAM)",
        paper="Ioannides et al., Gaussian Adaptive Attention Is All You Need: Robust Contextual Representations Across"
        " Multiple Modalities, arXiv:2401.11143",
        year=2024,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="8*N*C",
        formula="z_g = (x − μ − d_g) / s                        μ, s: mean and deviation of the channels of a part\n"
        "p = Π_g N(z_g; 0, c_g²);  y = x ⊙ p / Σ p      d_g, c_g learned; the sum runs over the part",
        source=Source("gioannides/Gaussian-Adaptive-Attention", "145d1bc", "Apache-2.0"),
        fixtures=("gaam", "gaam_block"),
        notes="As published: the Gaussians are multiplied (not added up), the variance is unbiased, the weights are "
        "divided by their sum or by 1e-8 if that is more (the class's argument `eps` changes nothing: it is passed on "
        "as another). Each token is weighed by itself; `gaam_tokens` weighs along the tokens. The authors draw the "
        "widths as exp(N(0, 1)), which makes a product of several very narrow; ours start so that the product is about"
        " as wide as the values.",
        flat=True,
    )
)
class ChannelGaussians(TokenMixer):
    """Scale the channels of each token by Gaussians of their distance from the token's mean.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Parts that the channels are cut into, the last takes what is left over; None for up to four of at least
            eight channels.
        gaussians: Gaussians that are multiplied in each part.
        padding_value: Values that stay as they are and count as zeros in the mean; None for none.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        gaussians: int = 5,
        padding_value: float | None = None,
    ) -> None:
        super().__init__(dim, rank=rank)
        heads = max(1, min(4, dim // 8)) if heads is None else heads
        if heads > dim:
            raise ValueError(f"heads {heads} is above the {dim} channels")
        self.gate = Gaussians(heads, gaussians, padding_value)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.gate(x)
