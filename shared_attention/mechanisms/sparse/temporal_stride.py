"""Each head looks at every so many frames only, and heads take turns, so that together they see all.

>>> import torch
>>> from shared_attention import build
>>> build("temporal_stride", 32, rank=3, stride=2)(torch.zeros(2, 8, 3, 3, 32)).shape  # (B, T, h, w, C)
torch.Size([2, 8, 3, 3, 32])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, positive
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.projections import join_heads, split_heads
from shared_attention.registry import Card, register

__all__ = ["TemporalStride"]


@register(
    Card(
        name="temporal_stride",
        title="Temporal stride attention, reconstructed",
        paper="Kim et al., Cross-Modal Learning with 3D Deformable Attention for Action Recognition, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N**2*C/stride",
        formula="y_i = W Σ_j softmax_j(q_i · k_j / √D) v_j     head h: j in frames t with t ≡ h (mod stride)",
        notes="A reconstruction: no code is published. Certain from the paper: tokens that take part in attention are "
        "reduced along time. Ours: queries stay, keys are every stride-th frame, and heads take the phases in turn, so "
        "that no frame is lost where there are as many heads as phases. The first grid axis is time.",
        small={"stride": 2, "heads": 2},
    )
)
class TemporalStride(TokenMixer):
    """Softmax attention of all tokens to those of every stride-th frame, another phase for each head.

    Args:
        dim: Channels `C`.
        rank: Grid axes, the first of them time.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        stride: Frames from one that a head sees to the next; a shorter clip takes its length.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        stride: int = 2,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("stride", stride)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.stride, self.dropout = stride, dropout
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        frames = x.shape[1]
        stride = min(self.stride, frames)
        k, v = self.kv(x).chunk(2, -1)
        parts = torch.stack([split_heads(part, self.heads) for part in (k, v)])  # (2, B, H, N, D)
        k, v = self._in_turn(parts.unflatten(3, (frames, -1)), stride).unbind(0)  # (B, H, M, D)
        if mask is None and frames % stride:
            mask = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device)
        visible = None
        if mask is not None:
            real = mask.reshape(len(x), frames, -1)[None, :, None, :, :, None].expand(-1, -1, self.heads, -1, -1, -1)
            visible = self._in_turn(real, stride)[0].transpose(-2, -1)  # (B, H, 1, M)
        rate = self.dropout if self.training else 0.0
        out = attend(split_heads(self.q(x), self.heads), k, v, mask=visible, dropout=rate)  # (B, H, N, D)
        return self.proj(join_heads(out, x.shape[1:-1]))

    def _in_turn(self, parts: Tensor, stride: int) -> Tensor:
        """Of `(P, B, H, T, R, D)` the frames of each head: `(P, B, H, ceil(T / stride) R, D)`, padded with zeros."""
        parts = functional.pad(parts, (0, 0, 0, 0, 0, -parts.shape[3] % stride))
        parts = parts.unflatten(3, (-1, stride))  # (P, B, H, T / stride, stride, R, D)
        turns = torch.arange(self.heads, device=parts.device) % stride
        index = turns.view(1, 1, -1, 1, 1, 1, 1).expand(*parts.shape[:4], 1, *parts.shape[5:])
        return parts.gather(4, index).flatten(3, 5)
