"""The map of tokens against tokens from its parts at a few landmarks (Nyströmformer).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("nystrom", 32, rank=2, heads=4, landmarks=8)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer, blank
from shared_attention.mechanisms.approximate._segments import segment_means, segments_real
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["Nystrom"]

_STEPS = 6


@register(
    Card(
        name="nystrom",
        title="Nyström attention (Nyströmformer)",
        paper="Xiong et al., Nyströmformer: A Nyström-Based Algorithm for Approximating Self-Attention, AAAI 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 4*N*C*landmarks",
        formula="q̃, k̃ = means of q, k over segments             (H, landmarks, D)\n"
        "y = W softmax(q k̃ᵀ / √D) pinv(softmax(q̃ k̃ᵀ / √D)) softmax(q̃ kᵀ / √D) v",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_nystrom",),
        notes="Landmarks are means of segments in row-major order. The default is `form=paper`: logits over √D, and "
        "each matrix scaled by its own column sums before it is inverted. CAB's code divides the logits by D and "
        "scales by the largest column sum of the whole batch, so that rows depend on one another: `form=published`. "
        "With no more tokens than landmarks both are full attention. The inverse magnifies rounding, so at least 32 "
        "bits are used.",
        flat=True,
        small={"landmarks": 4},
    )
)
class Nystrom(TokenMixer):
    """Softmax of queries against landmarks, the inverse of landmarks against landmarks, and landmarks against keys.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        landmarks: Segments whose means stand for all tokens.
        kernel: Tokens of a convolution of the values along the row-major order that is added, odd; None for none.
        qkv_bias: Whether queries, keys and values have an additive bias.
        form: Scale of the logits and of the matrix that is inverted: the paper's, or what CAB published.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        landmarks: int = 16,
        kernel: int | None = None,
        qkv_bias: bool = True,
        form: Literal["paper", "published"] = "paper",
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("landmarks", landmarks)
        if kernel is not None and (kernel < 1 or kernel % 2 == 0):
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        self.heads, self.head_dim = heads_of(dim, heads)
        self.landmarks, self.form = landmarks, form
        self.scale = self.head_dim**-0.5 if form == "paper" else 1 / self.head_dim
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.conv = None if kernel is None else nn.Parameter(torch.empty(self.heads, 1, kernel))
        if self.conv is not None:
            nn.init.kaiming_uniform_(self.conv, a=5**0.5)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        qkv = blank(self.qkv(x), mask)
        with torch.autocast(x.device.type, enabled=False):
            out = self._attend(qkv.to(torch.promote_types(qkv.dtype, torch.float32)), mask).to(qkv.dtype)
        return self.proj(out)

    def _attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        q, k, v = (split_heads(part, self.heads) for part in qkv.chunk(3, -1))  # (B, H, N, D)
        visible = flat_mask(mask)  # (B, 1, 1, N)
        if q.shape[-2] <= self.landmarks:
            out = attend(q, k, v, mask=visible, scale=self.scale)
        else:
            real = None if visible is None else visible.squeeze(-2)  # (B, 1, N)
            mean_q, mean_k = (segment_means(part, self.landmarks, real) for part in (q, k))  # (B, H, R, D)
            seen = None if real is None else segments_real(real, self.landmarks).unsqueeze(-2)  # (B, 1, 1, R)
            inverse = self._inverse(token_softmax(mean_q @ mean_k.transpose(-2, -1) * self.scale, mask=seen))
            values = inverse @ attend(mean_q, k, v, mask=visible, scale=self.scale)  # (B, H, R, D)
            out = attend(q, mean_k, values, mask=seen, scale=self.scale)
        if self.conv is not None:
            out = out + self._along(v)
        return join_heads(out, qkv.shape[1:-1])

    def _inverse(self, matrix: Tensor) -> Tensor:
        """Pseudo-inverse of `(B, H, R, R)` by a fixed number of steps of third order."""
        identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
        columns = matrix.sum(-2, keepdim=True)  # (B, H, 1, R)
        largest = columns.amax() if self.form == "published" else columns.amax(-1, keepdim=True)
        # a row without a real token is all zero
        inverse = matrix.transpose(-2, -1) / largest.clamp(min=torch.finfo(matrix.dtype).tiny)
        for _ in range(_STEPS):
            product = matrix @ inverse
            inverse = 0.25 * inverse @ (13 * identity - product @ (15 * identity - product @ (7 * identity - product)))
        return inverse

    def _along(self, v: Tensor) -> Tensor:
        """A convolution of values `(B, H, N, D)` along the tokens, one kernel a head."""
        assert self.conv is not None
        lines = v.permute(0, 3, 1, 2).flatten(0, 1)  # (B * D, H, N)
        lines = functional.conv1d(lines, self.conv.to(v.dtype), padding=self.conv.shape[-1] // 2, groups=self.heads)
        return lines.unflatten(0, (v.shape[0], -1)).permute(0, 2, 3, 1)
