"""Attention in a line whose weights for later tokens are scaled down after the softmax (iLLaMA).

>>> import torch
>>> from shared_attention import build
>>> build("soft_causal", 64, rank=2, softness=0.3)(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from shared_attention.arguments import heads_of
from shared_attention.attend import attend, is_recording, token_softmax
from shared_attention.contract import TokenMixer
from shared_attention.positions import Rotary
from shared_attention.registry import Card, Source, register

__all__ = ["SoftCausal"]

_ROWS = 512
"""Queries that are looked at together; bounds what the doubled keys cost."""


@register(
    Card(
        name="soft_causal",
        title="Causal attention with a soft mask (iLLaMA)",
        paper="Wang et al., Adapting LLaMA Decoder to Vision Transformer, arXiv:2404.06773",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self", "causal"),
        cost="4*N*C**2 + 2*N**2*C",
        formula="w_ij = softmax_j(R_i q_i · R_j k_j / √D)        R: rotary position\n"
        "y_i = W (Σ_{j ≤ i} w_ij v_j + softness · Σ_{j > i} w_ij v_j)     causal=True: softmax over j ≤ i alone",
        source=Source("techmonsterwang/iLLaMA", "dfc93b9", "none"),
        fixtures=("illama_block",),
        notes="The grid is read in row-major order. As published, the mask is multiplied onto the weights after the "
        "softmax over all tokens: rows do not sum to one, and what comes later still weighs in the denominator, so "
        "this is not causal in the strict sense. `causal` masks before the softmax instead. The authors lower "
        "`softness` from one to zero in training, put the class token last, and add learned places beside the "
        "rotation.",
        flat=True,
    )
)
class SoftCausal(TokenMixer):
    """Attention with rotated queries and keys, where the weights of later tokens are multiplied by a constant.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        softness: What the weights of later tokens are multiplied by, 0 (a mask) to 1 (no mask).
        causal: Whether later tokens are hidden before the softmax instead; `softness` must be 0 then.
        base: Wavelengths of the rotation go up to about `base * 2 * pi` tokens.
        qkv_bias: Whether queries, keys and values have an additive bias.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        softness: float = 0.0,
        causal: bool = False,
        base: float = 10000.0,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, head_dim = heads_of(dim, heads)
        if not 0 <= softness <= 1:
            raise ValueError(f"softness {softness} is not between 0 and 1")
        if causal and softness:
            raise ValueError(f"softness {softness} does not go with causal, which hides later tokens: allowed is 0")
        self.softness, self.causal = softness, causal
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.rotary = Rotary(head_dim, base=base, interleaved=True) if head_dim > 1 else None
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        qkv = self.qkv(x).flatten(1, -2).unflatten(-1, (3, self.heads, -1))
        q, k, v = qkv.permute(2, 0, 3, 1, 4)  # (B, H, N, D) each
        if self.rotary is not None:
            line = (q.shape[-2],)
            q, k = self.rotary(q, line), self.rotary(k, line)
        visible = None if mask is None else mask.flatten(1)[:, None, None]  # (B, 1, 1, N)
        out = attend(q, k, v, mask=visible, causal=True) if self.causal else self._soft(q, k, v, visible)
        return self.proj(out.transpose(1, 2).flatten(2).view_as(x))

    def _soft(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None) -> Tensor:
        """Weights of later tokens times `softness`: `(B, H, N, D)`."""
        if self.softness == 1:
            return attend(q, k, v, mask=visible)
        if is_recording():
            weights = token_softmax(q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5, mask=visible)
            return (weights - (1 - self.softness) * weights.triu(1)) @ v
        n = q.shape[-2]
        return torch.cat(
            [self._rows(q, k, v, visible, start, min(start + _ROWS, n)) for start in range(0, n, _ROWS)], -2
        )

    def _rows(self, q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, start: int, stop: int) -> Tensor:
        """The same for queries `start` to `stop`, without writing the weights out.

        The softmax must see each key once, but its value whole for some queries and scaled for others. So the keys at
        the places of these queries stand there twice, once with their values and once with scaled ones, and a mask
        lets each query see one of the two.
        """
        own = slice(start, stop)
        keys = torch.cat([k, k[..., own, :]], -2)
        values = torch.cat([v[..., :stop, :], self.softness * v[..., stop:, :], self.softness * v[..., own, :]], -2)
        later = torch.ones(stop - start, stop - start, dtype=torch.bool, device=q.device).triu(1)
        whole = later.new_ones(stop - start, k.shape[-2])
        whole[:, own] = ~later
        seen = torch.cat([whole, later], -1)  # (n, N + n)
        if visible is not None:
            seen = seen & torch.cat([visible, visible[..., own]], -1)
        return attend(q[..., own, :], keys, values, mask=seen)
