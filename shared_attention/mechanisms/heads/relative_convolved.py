"""Attention in a sequence with learned distances, whose queries, keys and values were convolved before (RCMHA).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("relative_convolved", 64, rank=1, causal=True)
>>> mixer(torch.zeros(2, 30, 64)).shape, mixer(torch.zeros(2, 30, 64), torch.zeros(2, 50, 64)).shape  # (B, *S, C) stays
(torch.Size([2, 30, 64]), torch.Size([2, 30, 64]))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.registry import Card, Source, register

__all__ = ["RelativeConvolved"]


class _Projection(nn.Module):
    """A linear layer, cut into heads, then a depthwise convolution over the own token and those before it."""

    def __init__(self, dim: int, out: int, heads: int, kernel: int, *, bias: bool, conv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        width = out // heads
        self.linear = nn.Linear(dim, out, bias=bias)
        self.conv = nn.Conv1d(width, width, kernel, groups=width, bias=conv_bias)

    def forward(self, tokens: Tensor, mask: Tensor | None) -> Tensor:
        """`(B, N, C)` to `(B, H, N, D)`."""
        rows = blank(self.linear(tokens), mask).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1)  # (B, H, D, N)
        before = functional.pad(rows.flatten(0, 1), (self.conv.kernel_size[0] - 1, 0))
        return self.conv(before).unflatten(0, rows.shape[:2]).transpose(-2, -1)


@register(
    Card(
        name="relative_convolved",
        title="Relative convolutional multi-head attention (RCMHA)",
        paper="Sugiharto et al., RCMHA: Relative Convolutional Multi-Head Attention for Natural Language Modelling, "
        "arXiv:2308.03429",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self", "causal", "cross", "causal cross"),
        cost="4*N*C**2 + 4*N**2*C",
        formula="q, k, v = causal depthwise convolution (kernel) of Wq x, Wk x, Wv x\n"
        "y_i = W Σ_j softmax_j((q_i · k_j + u · k_j + q_i · r[i − j] + b[i − j]) / √D) v_j",
        source=Source("hermansh-id/rcmha", "87df49b", "Apache-2.0"),
        fixtures=("rcmha",),
        notes="The grid is read in row-major order. A context is aligned with the tokens at their ends, as the memory "
        "of Transformer-XL is; `causal` lets a token see what is not behind it in that sense. Distances beyond `reach`"
        " count as the farthest (the authors' code fails there). The bias of the keys' convolution is left out: it "
        "adds the same to all logits of a query.",
        flat=True,
        small={"reach": 32},
    )
)
class RelativeConvolved(TokenMixer):
    """Attention with a learned key and bias for every distance, on causally convolved queries, keys and values.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        context_dim: Channels of the context; None for as many as the tokens have.
        causal: Whether a token sees only itself and those before it in row-major order.
        kernel: Tokens that the convolutions see: the own and those before it.
        reach: Distances that are told apart, in either direction.
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
        kernel: int = 3,
        reach: int = 4096,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, context_dim=context_dim)
        for name, value in (("kernel", kernel), ("reach", reach)):
            if value < 1:
                raise ValueError(f"{name} {value} is not above zero")
        self.heads, head_dim = heads_of(dim, heads)
        self.causal, self.reach, self.dropout = causal, reach, dropout
        self.q = _Projection(dim, dim, self.heads, kernel, bias=False, conv_bias=True)
        self.k = _Projection(self.context_dim, dim, self.heads, kernel, bias=False, conv_bias=False)
        self.v = _Projection(self.context_dim, dim, self.heads, kernel, bias=True, conv_bias=True)
        self.query_bias = nn.Parameter(torch.zeros(self.heads, head_dim))
        self.distance_key = nn.Parameter(torch.zeros(2 * reach, self.heads, head_dim))
        self.distance_bias = nn.Parameter(torch.zeros(2 * reach, self.heads))
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        tokens, real = x.flatten(1, -2), None if mask is None else mask.flatten(1)
        seen, seen_real = tokens, real
        if context is not None:
            seen, seen_real = context.flatten(1, -2), None if context_mask is None else context_mask.flatten(1)
        visible = None if seen_real is None else seen_real[:, None, None]  # (B, 1, 1, M)
        if self.causal:
            lower = self._distances(tokens.shape[1], seen.shape[1], x.device) <= 0  # (N, M)
            visible = lower if visible is None else visible & lower
        return self.look(tokens, seen, seen, visible, real, seen_real).view_as(x)

    def look(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        visible: Tensor | None = None,
        query_real: Tensor | None = None,
        key_real: Tensor | None = None,
    ) -> Tensor:
        """The mechanism with keys and values from two places.

        Args:
            query: `(B, N, C)`.
            key: `(B, M, E)`.
            value: `(B, M, E)`.
            visible: bool, broadcastable to `(B, H, N, M)`, True where a query may see a key.
            query_real: bool `(B, N)`, True for a real token.
            key_real: bool `(B, M)`, True for a real token.

        Returns:
            `(B, N, C)`.
        """
        q, k, v = self.q(query, query_real), self.k(key, key_real), self.v(value, key_real)
        bias = self._by_distance(q, k.shape[-2]) * q.shape[-1] ** -0.5
        shifted = q + self.query_bias[:, None].to(q.dtype)
        out = attend(shifted, k, v, mask=visible, bias=bias, dropout=self.dropout if self.training else 0.0)
        return self.proj(out.transpose(1, 2).flatten(2))

    def _by_distance(self, q: Tensor, m: int) -> Tensor:
        """What a query gives to each key by its distance alone: `(B, H, N, M)`."""
        n = q.shape[-2]
        apart = torch.arange(1 - m, n, device=q.device).clamp(-self.reach, self.reach - 1) + self.reach
        keys, biases = self.distance_key[apart], self.distance_bias[apart]  # (N + M - 1, H, D), (N + M - 1, H)
        logits = q @ keys.permute(1, 2, 0).to(q.dtype) + biases.transpose(0, 1)[:, None].to(q.dtype)
        # Row i starts i distances further to the left: with one column more, the rows read one column less shift so.
        shifted = functional.pad(logits, (0, 1)).flatten(-2)[..., n - 1 : n - 1 + n * (n + m - 1)]
        return shifted.unflatten(-1, (n, n + m - 1))[..., :m]

    @staticmethod
    def _distances(n: int, m: int, device: torch.device) -> Tensor:
        """Place of a key less that of a query, counted from the end: `(N, M)`."""
        return torch.arange(m, device=device) - torch.arange(n, device=device)[:, None] + n - m
