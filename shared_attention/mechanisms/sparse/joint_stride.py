"""Joints look at those that lie a stride apart in their order, frame by frame.

>>> import torch
>>> from shared_attention import build
>>> build("joint_stride", 32, rank=2, stride=3)(torch.zeros(2, 8, 17, 32)).shape  # (B, T, J, C)
torch.Size([2, 8, 17, 32])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import heads_of, positive
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.grids import crop, pad_to_multiple
from shared_attention.registry import Card, register

__all__ = ["JointStride"]


@register(
    Card(
        name="joint_stride",
        title="Local joint stride attention, reconstructed",
        paper="Kim et al., Cross-Modal Learning with 3D Deformable Attention for Action Recognition, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N**(1 + 1/rank)*C/stride",
        formula="y_tj = W Σ_i softmax_i(q_tj · k_ti / √D) v_ti     i: joints with i ≡ j (mod stride)",
        notes="A reconstruction: no code is published. Certain from the paper: pose tokens are combined in space by a "
        "stride over joints. Ours: joints of one group lie a stride apart in the order that they are given in, and "
        "groups are separate. The last grid axis is the joints, those before it are not mixed.",
        small={"stride": 2},
    )
)
class JointStride(TokenMixer):
    """Softmax attention among tokens that lie a stride apart on the last axis.

    Args:
        dim: Channels `C`.
        rank: Grid axes, the last of them joints.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        stride: Joints from one to the next of its group, which is also the number of groups; fewer joints take theirs.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        stride: int = 3,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("stride", stride)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.stride, self.dropout = stride, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        stride = min(self.stride, grid[-1])
        x, mask = pad_to_multiple(x, [1] * (len(grid) - 1) + [stride], mask)
        qkv = self.qkv(x).flatten(1, -3) if len(grid) > 1 else self.qkv(x).unsqueeze(1)  # (B, F, J, 3 C)
        groups = qkv.unflatten(2, (-1, stride)).transpose(2, 3).flatten(1, 2)  # (B, F stride, n, 3 C)
        q, k, v = groups.unflatten(-1, (3, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (B, G, H, n, D) each
        visible = None
        if mask is not None:
            rows = mask.flatten(1, -2) if len(grid) > 1 else mask.unsqueeze(1)  # (B, F, J)
            visible = rows.unflatten(2, (-1, stride)).transpose(2, 3).flatten(1, 2)[:, :, None, None]  # (B, G, 1, 1, n)
        out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)  # (B, G, H, n, D)
        out = out.transpose(2, 3).flatten(3).unflatten(1, (-1, stride)).transpose(2, 3).flatten(2, 3)  # (B, F, J, C)
        return crop(self.proj(out).reshape(x.shape), grid)
