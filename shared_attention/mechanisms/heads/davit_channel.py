"""Channels attend to channels of their group, over all tokens (DaViT's channel part).

>>> import torch
>>> from shared_attention import build
>>> build("davit_channel", 32, rank=3, heads=4)(torch.zeros(1, 4, 9, 6, 32)).shape  # (B, *S, C) stays
torch.Size([1, 4, 9, 6, 32])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import heads_of
from shared_attention.contract import TokenMixer, blank
from shared_attention.projections import project_mixed, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["DavitChannel"]


@register(
    Card(
        name="davit_channel",
        title="Channel group attention of dual attention (DaViT, channel)",
        paper="Ding et al., DaViT: Dual Attention Vision Transformers, ECCV 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="4*N*C**2 + N*C*D + C**2*D",
        formula="A = softmax(qᵀ k / √D)      (H, D, D): channels of a group, scalar products over all tokens\n"
        "y = W (v Aᵀ)",
        source=Source("dingmyu/davit", "fc79470", "MIT"),
        fixtures=("davit_channel_attention", "davit_channel_block"),
        notes="As released: what the code calls k, v and q are query, key and value, and logits are scaled by the "
        "channels of a group to the power -1/2. The paper, and later models of its authors, scale by the tokens.",
        flat=True,
    )
)
class DavitChannel(TokenMixer):
    """Softmax attention among the channels of each group; the scalar products run over all real tokens.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of groups, a divisor of the channels; None for groups of about 32 channels.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(self, dim: int, *, rank: int, heads: int | None = None, qkv_bias: bool = True) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        values, queries, keys = blank(self.qkv(x), mask).flatten(1, -2).chunk(3, -1)  # (B, N, C) each
        queries, keys = (split_heads(part, self.heads) for part in (queries, keys))  # (B, H, N, D)
        logits = queries.transpose(-2, -1) @ (keys * self.head_dim**-0.5)  # (B, H, D, D)
        return project_mixed(values, logits.softmax(-1), self.proj).unflatten(1, x.shape[1:-1])  # (B, *S, C)
