"""Attention without a map of tokens against tokens: queries read a summary of all values (efficient attention).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("linear", 32, rank=3, heads=4)
>>> mixer(torch.zeros(2, 4, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 4, 5, 6, 32])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import heads_of
from shared_attention.attend import token_softmax
from shared_attention.contract import TokenMixer
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["Linear"]


@register(
    Card(
        name="linear",
        title="Linear attention (efficient attention)",
        paper="Shen et al., Efficient Attention: Attention with Linear Complexities, WACV 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self", "cross"),
        cost="4*N*C**2 + 2*N*C*D",
        formula="y = W (softmax_D(q) (softmax_N(k)ᵀ v))         (H, D, D) in between",
        source=Source("mindflow-institue/DAEFormer", "9460d3a", "MIT"),
        fixtures=("daeformer_efficient_attn",),
        notes="softmax(Q) over the channels of a head times softmax(K) over the tokens times V; neither is scaled. "
        "Held against the class in DAEFormer, which repeats that of the paper.",
        flat=True,
    )
)
class Linear(TokenMixer):
    """Each head sums up all values once for each of its key channels; a query mixes these sums.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels of keys and values; None for heads of about 32 channels.
        key_dim: Channels of queries and keys; None for as many as the tokens have.
        value_dim: Channels of values; None for as many as the tokens have.
        context_dim: Channels of the context; None for as many as the tokens have.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        key_dim: int | None = None,
        value_dim: int | None = None,
        context_dim: int | None = None,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank, context_dim=context_dim)
        key_dim, value_dim = dim if key_dim is None else key_dim, dim if value_dim is None else value_dim
        self.heads, _ = heads_of(key_dim, heads)
        heads_of(value_dim, self.heads)
        self.q = nn.Linear(dim, key_dim, bias=qkv_bias)
        self.k = nn.Linear(self.context_dim, key_dim, bias=qkv_bias)
        self.v = nn.Linear(self.context_dim, value_dim, bias=qkv_bias)
        self.proj = nn.Linear(value_dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        seen, seen_mask = (x, mask) if context is None else (context, context_mask)
        q = split_heads(self.q(x), self.heads).softmax(-1)  # (B, H, N, D), over channels
        k = split_heads(self.k(seen), self.heads).transpose(-2, -1)  # (B, H, D, M)
        v = split_heads(self.v(seen), self.heads)  # (B, H, M, E)
        summary = token_softmax(k, mask=flat_mask(seen_mask)) @ v  # (B, H, D, E)
        return self.proj(join_heads(q @ summary, x.shape[1:-1]))
