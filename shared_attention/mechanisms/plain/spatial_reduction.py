"""Every token looks at a coarser grid of tokens, each made of a patch of the grid (PVT, SegFormer).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("spatial_reduction", 32, rank=2, heads=4, ratio=2)
>>> mixer(torch.zeros(2, 5, 6, 32)).shape  # (B, *S, C)
torch.Size([2, 5, 6, 32])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.convolutions import Convolution
from shared_attention.grids import crop, pad_grid, partition_map
from shared_attention.projections import flat_mask, join_heads, split_heads
from shared_attention.registry import Card, Source, register

__all__ = ["SpatialReduction", "Coarser"]


class Coarser(nn.Module):
    """A coarser grid: a convolution over patches that do not overlap, and a layer normalisation.

    Tokens beyond the last whole patch of an axis are left out, as a strided convolution does; an axis shorter than a
    patch is filled up with zeros to one.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        ratio: Tokens of a patch along each axis.
    """

    def __init__(self, dim: int, *, rank: int, ratio: int | tuple[int, ...]) -> None:
        super().__init__()
        self.ratio = per_axis("ratio", ratio, rank)
        self.reduce = Convolution(dim, dim, rank=rank, kernel=self.ratio, stride=self.ratio, padding=0)
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """`(B, *S, C)`, zero at padded tokens, and its mask to the coarser grid `(B, *R, C)` and its mask; a patch is
        real if any of its tokens is.
        """
        grid = x.shape[1:-1]
        after = [max(part - size, 0) for part, size in zip(self.ratio, grid, strict=True)]
        before = [0] * len(after)
        coarse = self.norm(self.reduce(pad_grid(x, before, after)))  # (B, *R, C)
        if mask is None:
            return coarse, None
        whole = [size * part for size, part in zip(coarse.shape[1:-1], self.ratio, strict=True)]
        padded = crop(pad_grid(mask.unsqueeze(-1), before, after), whole).squeeze(-1)
        return coarse, partition_map(padded, self.ratio).any(-1).unflatten(1, coarse.shape[1:-1])


@register(
    Card(
        name="spatial_reduction",
        title="Spatial-reduction attention (PVT, SegFormer)",
        paper="Wang et al., Pyramid Vision Transformer: A Versatile Backbone for Dense Prediction without "
        "Convolutions, ICCV 2021; Xie et al., SegFormer, NeurIPS 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*C**2 + 2*N*C**2/ratio**rank + 2*N**2*C/ratio**rank",
        formula="z = LN(conv, kernel and stride `ratio`, of x)\ny = W softmax(q(x) k(z)ᵀ / √D) v(z)",
        source=Source("mindflow-institue/DAEFormer", "9460d3a", "MIT"),
        fixtures=("segformer_sr_attn",),
        notes="Keys and values come from patches of `ratio` tokens along each axis; tokens beyond the last whole patch "
        "of an axis are not looked at, as in the authors' code. With `ratio` 1 this is full attention.",
        small={"ratio": 2},
    )
)
class SpatialReduction(TokenMixer):
    """Softmax attention of all tokens to a coarser grid of them.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        ratio: Tokens of a patch along each axis.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        ratio: int | tuple[int, ...] = 4,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.dropout = dropout
        ratio = per_axis("ratio", ratio, rank)
        self.coarser = Coarser(dim, rank=rank, ratio=ratio) if any(part > 1 for part in ratio) else None
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        seen, seen_mask = (x, mask) if self.coarser is None else self.coarser(x, mask)
        q = split_heads(self.q(x), self.heads)  # (B, H, N, D)
        k, v = (split_heads(part, self.heads) for part in self.kv(seen).chunk(2, -1))  # (B, H, R, D)
        out = attend(q, k, v, mask=flat_mask(seen_mask), dropout=self.dropout if self.training else 0.0)
        return self.proj(join_heads(out, x.shape[1:-1]))
