"""Each token chooses how far around it is averaged before it attends (RTA's token-aware average pooling).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("token_aware_pooling", 64, rank=2, scales=3)
>>> x = torch.zeros(2, 5, 6, 64)  # (B, *S, C)
>>> mixer(x).shape, mixer.scale_weights(x).shape  # (B, *S, C) stays; (B, *S, K) weights of the scales
(torch.Size([2, 5, 6, 64]), torch.Size([2, 5, 6, 3]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of
from shared_attention.attend import attend, token_softmax
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.grids import pad_grid
from shared_attention.norms import BatchNorm
from shared_attention.registry import Card, Source, register

__all__ = ["TokenAwarePooling"]


@register(
    Card(
        name="token_aware_pooling",
        title="Attention after token-aware average pooling (RTA: TAP)",
        paper="Guo et al., Robustifying Token Attention for Vision Transformers, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N**2*C + N*C*scales*(3**rank + 1)",
        formula="w = softmax_s(conv₃(BN(conv₃(x))))             a weight for each of `scales` averages\n"
        "p_i = w_i0 x_i + Σ_s w_is mean of the 3^rank tokens s apart around i\n"
        "y = W softmax(q kᵀ / √D) v,  q, k, v = Wqkv LN(p)",
        source=Source("guoyongcs/TAPADL", "6e4dbff", "MIT"),
        fixtures=("rta_tap_block", "rta_adl_loss"),
        notes="The pooled tokens are normalised inside, so a block adds this to its input as it is (`norm=none`). An "
        "average counts zeros beyond the border and padded tokens: it always divides by all taps, as published. The "
        "other half of the paper, the loss that makes tokens attend differently (ADL), is "
        "`diversification.attention_diversification`, of the weights that `attention_weights` gives.",
        small={"scales": 3},
    )
)
class TokenAwarePooling(TokenMixer):
    """Full attention among tokens that are each a mixture of averages around them, with learned weights.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        scales: Averages to choose from: the token itself, then windows of three with steps of 1, 2, ...
        gated_tokens: Tokens, in row-major order, whose logits are multiplied by a learned factor of each pair before
            the softmax (tokens beyond have the factor one); None for no such factors.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        scales: int = 4,
        gated_tokens: int | None = None,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        for name, value in (("scales", scales), ("gated_tokens", gated_tokens)):
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} is not above zero")
        self.heads, _ = heads_of(dim, heads)
        self.dropout = dropout
        self.predict = Convolution(dim, scales, rank=rank, bias=False)
        self.predict_norm = BatchNorm(scales)
        self.predict_again = Convolution(scales, scales, rank=rank, bias=False)
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.gate = None if gated_tokens is None else nn.Parameter(torch.zeros(self.heads, gated_tokens, gated_tokens))
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        q, k, v = self._parts(x, mask)
        if self.gate is None:
            visible = None if mask is None else mask.flatten(1)[:, None, None]  # (B, 1, 1, N)
            out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)
        else:
            weights = self._weights(q, k, mask)
            out = functional.dropout(weights, self.dropout, self.training).to(v.dtype) @ v
        return self.proj(out.transpose(1, 2).reshape(x.shape))  # (B, *S, C)

    def scale_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """How much each token takes of each average: `(B, *S, K)`, summing to one; padded tokens of `x` are zero."""
        logits = blank(self.predict_norm(self.predict(x), mask), mask)
        return self.predict_again(logits).softmax(-1)

    def attention_weights(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Weights of all pairs `(B, H, N, N)`, written out and differentiable; padded tokens of `x` are zero."""
        q, k, _ = self._parts(x, mask)
        return self._weights(q, k, mask)

    def _parts(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the pooled tokens, `(B, H, N, D)` each."""
        weights = self.scale_weights(x, mask)
        pooled = x * weights[..., :1]
        for step in range(1, weights.shape[-1]):
            pooled = pooled + _average(x, step) * weights[..., step, None]
        qkv = self.qkv(self.norm(pooled)).flatten(1, -2).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        return q, k, v

    def _weights(self, q: Tensor, k: Tensor, mask: Tensor | None) -> Tensor:
        logits = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
        if self.gate is not None:
            n, known = q.shape[-2], min(q.shape[-2], self.gate.shape[-1])
            factors = self.gate[:, :known, :known].sigmoid()
            logits = logits * functional.pad(factors, (0, n - known, 0, n - known), value=1.0)
        return token_softmax(logits, mask=None if mask is None else mask.flatten(1)[:, None, None])


def _average(x: Tensor, step: int) -> Tensor:
    """Mean of each token and those `step` before and after it along every axis, zeros beyond the border."""
    rank = x.ndim - 2
    for axis in range(rank):
        around = [step if one == axis else 0 for one in range(rank)]
        size = x.shape[axis + 1]
        padded = pad_grid(x, around, around)
        x = sum(padded.narrow(axis + 1, start, size) for start in (0, step, 2 * step)) / 3  # type: ignore[assignment]
    return x
