"""Values are modulated by what depthwise convolutions of several sizes see around them, or attend (SMT).

>>> import torch
>>> from shared_attention import build
>>> x = torch.zeros(2, 5, 6, 64)  # (B, *S, C)
>>> build("scale_aware", 64, rank=2)(x).shape, build("scale_aware", 64, rank=2, branch="attention")(x).shape
(torch.Size([2, 5, 6, 64]), torch.Size([2, 5, 6, 64]))
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, largest_divisor
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.norms import BatchNorm
from shared_attention.registry import Card, Source, register

__all__ = ["Modulation", "ScaleAware", "ValueEnhancedAttention"]


class Modulation(nn.Module):
    """The modulating branch: `(B, *S, C)` to the same.

    Each head of the projected tokens goes through a depthwise convolution of its own size, 3, 5, 7, ...; then one
    channel of each head make a group, which is expanded, and all groups are joined.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Sizes of convolutions, a divisor of the channels.
        ratio: How many times wider the groups become.
        qkv_bias: Whether the projections of the input have an additive bias.
    """

    def __init__(self, dim: int, *, rank: int, heads: int, ratio: int, qkv_bias: bool) -> None:
        super().__init__()
        width = dim // heads
        self.value = nn.Linear(dim, dim, bias=qkv_bias)
        self.modulator = nn.Linear(dim, dim, bias=qkv_bias)
        self.local = nn.ModuleList(
            Convolution(width, width, rank=rank, kernel=3 + 2 * head, groups=width) for head in range(heads)
        )
        self.expand = Convolution(dim, dim * ratio, rank=rank, kernel=1, groups=width)
        self.norm = BatchNorm(dim * ratio)
        self.join = nn.Linear(dim * ratio, dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        parts = blank(self.modulator(x), mask).chunk(len(self.local), -1)  # (B, *S, C / H) each
        near = [convolution(part) for convolution, part in zip(self.local, parts, strict=True)]
        grouped = torch.stack(near, -1).flatten(-2)  # (B, *S, C): a channel of every head, then the next of every head
        expanded = functional.gelu(self.norm(blank(self.expand(grouped), mask), mask))
        return self.join(expanded) * self.value(x)


class ValueEnhancedAttention(nn.Module):
    """The attending branch: full attention, and a depthwise convolution of the values beside it.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(self, dim: int, *, rank: int, heads: int, qkv_bias: bool, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.local = Convolution(dim, dim, rank=rank, groups=dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        key, value = self.kv(x).chunk(2, -1)
        q, k, v = (
            part.flatten(1, -2).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.q(x), key, value)
        )
        visible = None if mask is None else mask.flatten(1)[:, None, None]  # (B, 1, 1, N)
        out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)  # (B, H, N, D)
        return out.transpose(1, 2).reshape(x.shape) + self.local(blank(value, mask))


@register(
    Card(
        name="scale_aware",
        title="Scale-aware modulation (SMT)",
        paper="Lin et al., Scale-Aware Modulation Meet Transformer, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="5*N*C**2 + N*C*(3**rank + 5**rank + 7**rank + 9**rank)/4",
        formula="modulation: s = ‖_h dwconv_{3+2h}(head h of Ws x);  y = W ((W₂ GELU(BN(W₁ s))) ⊙ Wv x)\n"
        "            W₁ joins one channel of every head\n"
        "attention:  y = W (softmax(q kᵀ / √D) v + dwconv₃(v))",
        source=Source("AFeng-x/SMT", "11e954d", "MIT"),
        fixtures=("smt_attention", "smt_block"),
        notes="The cost is that of the modulation with four heads, the authors' choice for the early stages. `branch` "
        "chooses full attention with a convolution of the values (4·N·C² + 2·N²·C), the authors' choice for the last "
        "stage; in the third stage the two alternate, as in a stack here.",
        alternation=({"branch": "modulation"}, {"branch": "attention"}),
    )
)
class ScaleAware(TokenMixer):
    """Values times what convolutions of several sizes see around them, or attention beside a convolution of values.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        branch: Modulate or attend.
        heads: Sizes of convolutions (modulation) or heads (attention), a divisor of the channels; None for up to four
            sizes, or for heads of about 32 channels.
        ratio: How many times wider the modulation is inside.
        qkv_bias: Whether the projections of the input have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        branch: Literal["modulation", "attention"] = "modulation",
        heads: int | None = None,
        ratio: int = 2,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        if ratio < 1:
            raise ValueError(f"ratio {ratio} is not above zero")
        if branch == "modulation" and heads is None:
            heads = largest_divisor(dim, 4)
        heads, _ = heads_of(dim, heads)
        self.inner: nn.Module
        if branch == "modulation":
            self.inner = Modulation(dim, rank=rank, heads=heads, ratio=ratio, qkv_bias=qkv_bias)
        else:
            self.inner = ValueEnhancedAttention(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.proj(self.inner(x, mask))  # (B, *S, C)
