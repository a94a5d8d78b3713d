"""Every token looks at those near it, on all sides or only before it.

>>> import torch
>>> from shared_attention import build
>>> build("local", 32, rank=2, window=2)(torch.zeros(1, 9, 6, 32)).shape  # each sees 5 x 5 tokens; (B, *S, C) stays
torch.Size([1, 9, 6, 32])
"""

from __future__ import annotations

from torch import Tensor

from shared_attention.arguments import per_axis
from shared_attention.attend import attend
from shared_attention.grids import crop, gather_halo, merge, pad_to_multiple, partition
from shared_attention.grouped import GroupedAttention
from shared_attention.positions import coordinates
from shared_attention.registry import Card, Source, register

__all__ = ["Local"]


@register(
    Card(
        name="local",
        title="Local attention",
        paper="Luong et al., Effective Approaches to Attention-based Neural Machine Translation, EMNLP 2015; "
        "Zhang et al., CAB: Comprehensive Attention Benchmarking on Long Sequence Modeling, ICML 2023",
        year=2015,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self", "causal"),
        cost="4*N*C**2 + 2*N*(4*window)**rank*C",
        formula="y_i = W Σ_j softmax_j(q_i · k_j / √D) v_j     |j − i| ≤ window along each axis; causal: j up to i",
        source=Source("Shark-NLP/CAB", "0e49696", "MIT"),
        fixtures=("cab_local",),
        notes="CAB's own class sees `window` tokens on both sides, or, where it is causal, `window` tokens with the "
        "own one; its default is 15, on a line. It is written for lines: on a grid a token sees a box, and before "
        "means before in row-major order. Given a padding mask, the released class hides only what is both padded and "
        "outside; ours hides padding. Attention is computed for blocks of tokens and their surroundings, at about "
        "twice the needed width along each axis, which is what the cost counts.",
        small={"window": 1},
    )
)
class Local(GroupedAttention):
    """Softmax attention of each token to the tokens around it.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: How far a token looks along each axis, to both sides; with `causal` so many tokens with its own.
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
        window: int | tuple[int, ...] = 3,
        causal: bool = False,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.causal = causal

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        reach = [min(size - 1, far - self.causal) for size, far in zip(grid, self.window, strict=True)]
        block = [min(size, max(2 * far, 4)) for size, far in zip(grid, reach, strict=True)]
        x, mask = pad_to_multiple(x, block, mask)
        padded = x.shape[1:-1]
        q, kv = self.qkv(x).split([self.dim, 2 * self.dim], -1)
        around, real = gather_halo(kv, block, reach, mask)  # (B, G, m, 2 C), (B or 1, G, m)
        k, v = around.unflatten(-1, (2, self.heads, -1)).permute(3, 0, 1, 4, 2, 5)  # (B, G, H, m, D) each
        q = partition(q, block).unflatten(-1, (self.heads, -1)).transpose(2, 3)  # (B, G, H, n, D)
        visible = real[:, :, None, None] & self._near(block, reach, x)  # (B or 1, G, 1, n, m)
        out = attend(q, k, v, mask=visible, dropout=self.dropout if self.training else 0.0)
        return self.proj(crop(merge(out.transpose(2, 3).flatten(3), block, padded), grid))  # (B, *S, C)

    def _near(self, block: list[int], reach: list[int], like: Tensor) -> Tensor:
        """Which tokens of a block and its surroundings each token of the block sees: bool `(n, m)`."""
        wide = [size + 2 * far for size, far in zip(block, reach, strict=True)]
        keys, queries = coordinates(wide, like.device), coordinates(block, like.device)
        apart = [keys[None, :, axis] - queries[:, None, axis] - far for axis, far in enumerate(reach)]
        near = apart[0].abs() <= reach[0]
        order = apart[0]
        for one, far in zip(apart[1:], reach[1:], strict=True):
            near = near & (one.abs() <= far)
            order = order * (2 * far + 1) + one  # negative for what comes before in row-major order
        return near & (order <= 0) if self.causal else near
