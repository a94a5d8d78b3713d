"""Keys and values are kept in a memory of a few slots, whatever their number (ABC).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("abc", 32, rank=2, heads=4, landmarks=8)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of, positive
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["BoundedMemory"]


@register(
    Card(
        name="abc",
        title="Attention with bounded-memory control (ABC)",
        paper="Peng et al., ABC: Attention with Bounded-Memory Control, ACL 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self", "causal", "cross"),
        cost="4*N*C**2 + 6*N*C*landmarks",
        formula="q, k, v = Wq x, Wkv x                          (H, N, D)\n"
        "K = softmax_N(k φ)ᵀ k,  V = softmax_N(v ψ)ᵀ v  (H, landmarks, D)\n"
        "y = W softmax(q Kᵀ / √D) V",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_abc",),
        notes="With `causal`, CAB's code gives each slot of a token its own key and value alone, weighed against what "
        "came before, with no running sum: `form=published`, the default. `form=paper` keeps the running memory, at "
        "N · landmarks · C numbers. A context is never causal, as in CAB. The memory of values is written by the "
        "values (CAB), not by the keys. The grid is read in row-major order where `causal` is set.",
        flat=True,
        small={"landmarks": 4},
    )
)
class BoundedMemory(TokenMixer):
    """Softmax attention to slots of a memory, each slot a learned softmax average of all keys, or of all values.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        landmarks: Slots of the memory.
        context_dim: Channels of the context; None for as many as the tokens have.
        causal: Whether a token sees only itself and those before it in row-major order.
        qkv_bias: Whether queries, keys and values have an additive bias.
        form: What a causal memory holds: the running average of the paper, or what CAB published.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        landmarks: int = 16,
        context_dim: int | None = None,
        causal: bool = False,
        qkv_bias: bool = True,
        form: Literal["published", "paper"] = "published",
    ) -> None:
        super().__init__(dim, rank=rank, context_dim=context_dim)
        positive("landmarks", landmarks)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.causal, self.form = causal, form
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(self.context_dim, 2 * dim, bias=qkv_bias)
        self.write_keys = nn.Parameter(torch.empty(self.head_dim, landmarks))
        self.write_values = nn.Parameter(torch.empty(self.head_dim, landmarks))
        self.proj = nn.Linear(dim, dim)
        for slots in (self.write_keys, self.write_values):
            nn.init.xavier_uniform_(slots, gain=2**-0.5)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        seen, seen_mask = (x, mask) if context is None else (context, context_mask)
        visible = flat_mask(seen_mask)  # (B, 1, 1, M)
        q = split_heads(self.q(x), self.heads)  # (B, H, N, D)
        k, v = (split_heads(part, self.heads) for part in self.kv(seen).chunk(2, -1))  # (B, H, M, D)
        if self.causal and context is None:
            out = self._causal(q, k, v, visible)
        else:
            keys = token_softmax((k @ self.write_keys).transpose(-2, -1), mask=visible) @ k  # (B, H, R, D)
            values = token_softmax((v @ self.write_values).transpose(-2, -1), mask=visible) @ v
            out = attend(q, keys, values)
        return self.proj(join_heads(out, x.shape[1:-1]))

    def _causal(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
        read, write = k @ self.write_keys, v @ self.write_values  # (B, H, N, R)
        if self.form == "paper":
            return attend(q.unsqueeze(-2), _running(read, k, visible), _running(write, v, visible)).squeeze(-2)
        logits = _share(read, visible) * (q * k).sum(-1, keepdim=True) * self.head_dim**-0.5  # (B, H, N, R)
        return (logits.softmax(-1) * _share(write, visible)).sum(-1, keepdim=True) * v  # (B, H, N, D), over slots


def _hidden(logits: Tensor, visible: Tensor | None) -> Tensor:
    """Logits `(B, H, N, R)` in at least 32 bits, of no weight where the token is padded."""
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return wide if visible is None else wide.masked_fill(~visible.transpose(-2, -1), -1e30)


def _share(logits: Tensor, visible: Tensor | None) -> Tensor:
    """What each token writes to each slot, as a part of all that was written so far: `(B, H, N, R)`."""
    wide = _hidden(logits, visible)
    share = (wide - wide.logcumsumexp(-2)).exp().to(logits.dtype)
    return share if visible is None else share.masked_fill(~visible.transpose(-2, -1), 0.0)


def _running(logits: Tensor, x: Tensor, visible: Tensor | None) -> Tensor:
    """The slots as they stand after each token: `(B, H, N, R, D)`."""
    wide = _hidden(logits, visible)
    weights = (wide - wide.amax(-2, keepdim=True)).exp()  # (B, H, N, R)
    if visible is not None:
        weights = weights.masked_fill(~visible.transpose(-2, -1), 0.0)
    total = weights.cumsum(-2).clamp(min=torch.finfo(wide.dtype).tiny)
    return ((weights.unsqueeze(-1) * x.unsqueeze(-2)).cumsum(-3) / total.unsqueeze(-1)).to(x.dtype)
