"""Every token looks at every token.

>>> import torch
>>> from shared_attention import build
>>> mixer = build("full", 32, rank=2, heads=4)
>>> image, text = torch.zeros(2, 5, 6, 32), torch.zeros(2, 9, 32)  # (B, *S, C), (B, M, C)
>>> mixer(image).shape, mixer(image, text).shape
(torch.Size([2, 5, 6, 32]), torch.Size([2, 5, 6, 32]))
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import heads_of
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.registry import Card, Source, register

__all__ = ["Full"]


@register(
    Card(
        name="full",
        title="Multi-head attention",
        paper="Vaswani et al., Attention Is All You Need, NeurIPS 2017",
        year=2017,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self", "causal", "cross", "causal cross"),
        cost="4*N*C**2 + 2*N**2*C",
        formula="y_i = W Σ_j softmax_j(q_i · k_j / √D) v_j     j: all tokens, those up to i, or the context's",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_vanilla",),
        notes="The grid is read in row-major order where `causal` is set; a query then sees the context up to its own "
        "place. `causal=True` of CAB's own class masks nothing by itself (it needs an attn_mask); ours masks.",
        flat=True,
    )
)
class Full(TokenMixer):
    """Softmax attention among all tokens, or to all tokens of a context.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        context_dim: Channels of the context; None for as many as the tokens have.
        causal: Whether a token sees only itself and those before it in row-major order.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        context_dim: int | None = None,
        causal: bool = False,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, context_dim=context_dim)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.causal = causal
        self.dropout = dropout
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(self.context_dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        seen, seen_mask = (x, mask) if context is None else (context, context_mask)
        q = self.q(x).flatten(1, -2).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, N, D)
        k, v = (
            self.kv(seen).flatten(1, -2).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        )  # (B, H, M, D) each
        visible = None if seen_mask is None else seen_mask.flatten(1)[:, None, None]  # (B, 1, 1, M)
        out = attend(q, k, v, mask=visible, causal=self.causal, dropout=self.dropout if self.training else 0.0)
        return self.proj(out.transpose(1, 2).flatten(2).unflatten(1, x.shape[1:-1]))  # (B, *S, C)
