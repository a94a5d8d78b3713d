"""Randomised attention with one proposal for each of a few landmarks (LARA).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("lara", 32, rank=2, heads=4, landmarks=8).eval()
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer, blank
from shared_attention.mechanisms.approximate._segments import segment_means, segments_real
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["LinearRandomised"]


@register(
    Card(
        name="lara",
        title="Linear randomised attention (LARA)",
        paper="Zheng et al., Linear Complexity Randomized Self-attention Mechanism, ICML 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 4*N*C*landmarks",
        formula="μ_r = mean of q + mean of k, over segment r;  ω_r = μ_r (a sample around it in training)\n"
        "f_rj = (ω_r · k_j − |k_j|²/2) / √D;  s_r = Σ_j softmax_j(f_rj) v_j\n"
        "y_i = W Σ_r softmax_r(q_i · (μ_r + ω_r) / √D + log Σ_j exp f_rj − (ω_r · μ_r − |μ_r|²/2) / √D) s_r",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_lara",),
        notes="Proposals are means of segments of queries plus those of keys, in row-major order; in training, samples "
        "around them are drawn from PyTorch's generator, in evaluation the means are used. Ours leaves padded tokens "
        "out of the proposals and of the normaliser, CAB's code only out of the values.",
        flat=True,
        small={"landmarks": 4},
    )
)
class LinearRandomised(TokenMixer):
    """Random features of the keys sum up the values; a query weighs the sums by how well each feature suits it.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        landmarks: Segments, each of which gives one proposal; as many as there are tokens where those are fewer.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(
        self, dim: int, *, rank: int, heads: int | None = None, landmarks: int = 16, qkv_bias: bool = True
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("landmarks", landmarks)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.landmarks = landmarks
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in blank(self.qkv(x), mask).chunk(3, -1))  # (B, H, N, D)
        visible = flat_mask(mask)  # (B, 1, 1, N)
        real = None if visible is None else visible.squeeze(-2)  # (B, 1, N)
        count = min(self.landmarks, q.shape[-2])
        mean = segment_means(q, count, real) + segment_means(k, count, real)  # (B, H, R, D)
        sample = mean + torch.randn_like(mean) if self.training else mean
        scale = self.head_dim**-0.5
        features = scale * (sample @ k.transpose(-2, -1) - _half_square(k).transpose(-2, -1))  # (B, H, R, N)
        sums = token_softmax(features, mask=visible) @ v  # (B, H, R, D)
        hidden = features if visible is None else features.masked_fill(~visible, torch.finfo(features.dtype).min / 2)
        density = scale * ((sample * mean).sum(-1, keepdim=True) - _half_square(mean))  # (B, H, R, 1)
        worth = (hidden.logsumexp(-1, keepdim=True) - density).transpose(-2, -1)  # (B, H, 1, R)
        seen = None if real is None else segments_real(real, count).unsqueeze(-2)  # (B, 1, 1, R)
        out = attend(q, mean + sample, sums, bias=worth, mask=seen, scale=scale)
        return self.proj(join_heads(out, x.shape[1:-1]))


def _half_square(x: Tensor) -> Tensor:
    """`(..., N, D)` to half of the squared lengths `(..., N, 1)`."""
    return x.square().sum(-1, keepdim=True) / 2
