"""Keys and values are sampled where the tokens themselves say it is worth looking, in space and in time.

>>> import torch
>>> from shared_attention import build
>>> mixer = build("deformable_3d", 32, rank=3, stride=2)
>>> clip = torch.zeros(2, 4, 6, 6, 32)  # (B, T, h, w, C)
>>> mixer(clip).shape, mixer.points(clip).shape  # (B, *S, C), (B, K, rank)
(torch.Size([2, 4, 6, 6, 32]), torch.Size([2, 18, 3]))
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis, positive
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.projections import split_heads
from shared_attention.registry import Card, register

__all__ = ["Deformable3D"]

_SOMETHING = 1e-6
"""Share of real tokens around a point from which it is seen."""


@register(
    Card(
        name="deformable_3d",
        title="3D deformable attention, reconstructed",
        paper="Kim et al., Cross-Modal Learning with 3D Deformable Attention for Action Recognition, ICCV 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*C**2 + 2*N*C**2/stride**rank + 2*N**2*C/stride**rank",
        formula="q = Wq x\n"
        "p_k = r_k + reach tanh(Wo gelu(norm(conv_stride(q)_k)))    r_k: every stride-th place of each axis\n"
        "x̃_k = x at p_k, linear between its neighbours on each axis\n"
        "y_i = W Σ_k softmax_k(q_i · k_k / √D) v_k                    k, v = Wkv x̃",
        notes="A reconstruction: no code is published. Certain from the paper: tokens for keys and values are searched "
        "in three dimensions by learned offsets, and modal tokens stand beside them (`with_tokens`). Ours: the network "
        "of offsets (as in deformable attention of images: depthwise convolution, norm, GELU, projection, bounded by "
        "tanh), reference points at every stride-th token, linear sampling that leaves padded tokens out, and no "
        "relative position bias.",
        small={"stride": 2},
    )
)
class Deformable3D(TokenMixer):
    """Attention to tokens that are sampled, linearly interpolated, at learned places of the grid.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        stride: Distance of the reference points along each axis.
        kernel: Size of the convolution that offsets are told from, odd.
        reach: How far a point may move from its reference along each axis, in tokens.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        stride: int | tuple[int, ...] = 2,
        kernel: int = 3,
        reach: float = 2.0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("reach", reach)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        self.heads, self.head_dim = heads_of(dim, heads)
        self.stride, self.reach, self.dropout = per_axis("stride", stride, rank), reach, dropout
        self.q = nn.Linear(dim, dim, bias=qkv_bias)
        self.kv = nn.Linear(dim, 2 * dim, bias=qkv_bias)
        self.spread = Convolution(dim, dim, rank=rank, kernel=kernel, stride=stride, padding=kernel // 2, groups=dim)
        self.norm = nn.LayerNorm(dim)
        self.offset = nn.Linear(dim, rank, bias=False)
        self.proj = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.with_tokens(x, None, mask=mask)[0]

    def with_tokens(
        self, x: Tensor, tokens: Tensor | None, *, mask: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """The mixer, with tokens beside the grid that look at all, and that all look at.

        Args:
            x: `(B, *S, C)`; padded tokens are zero.
            tokens: `(B, M, C)`, modal or class tokens; None for none.
            mask: bool `(B, *S)`, True for a real token.

        Returns:
            The grid `(B, *S, C)` and the tokens `(B, M, C)`.
        """
        q = self.q(x)
        found, seen = self._sample(x, self._points(blank(q, mask)), mask)  # (B, K, C), (B, K)
        if tokens is not None:
            found = torch.cat([found, tokens], 1)
            seen = functional.pad(seen, (0, tokens.shape[1]), value=True)
        queries = q.flatten(1, -2) if tokens is None else torch.cat([q.flatten(1, -2), self.q(tokens)], 1)
        k, v = self.kv(found).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, K, D) each
        visible = None if mask is None else seen[:, None, None]
        rate = self.dropout if self.training else 0.0
        out = attend(split_heads(queries, self.heads), k, v, mask=visible, dropout=rate)  # (B, H, N + M, D)
        out = self.proj(out.transpose(1, 2).flatten(2))  # (B, N + M, C)
        count = q.shape[1:-1].numel()
        return out[:, :count].unflatten(1, x.shape[1:-1]), None if tokens is None else out[:, count:]

    def points(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Where keys are sampled `(B, K, rank)`, counted in tokens along each axis; a point outside takes the border.

        Args:
            x: `(B, *S, C)`; padded tokens are zero.
            mask: bool `(B, *S)`, True for a real token.
        """
        return self._points(blank(self.q(x), mask)).flatten(1, -2)

    def _points(self, q: Tensor) -> Tensor:
        hidden = functional.gelu(self.norm(self.spread(q)))  # (B, *R, C)
        references = [
            torch.arange(size, device=q.device, dtype=q.dtype) * step
            for size, step in zip(hidden.shape[1:-1], self.stride, strict=True)
        ]
        places = torch.stack(torch.meshgrid(*references, indexing="ij"), -1)  # (*R, rank)
        return places + self.reach * self.offset(hidden).tanh()  # (B, *R, rank)

    def _sample(self, x: Tensor, points: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """Tokens at the points `(B, K, C)`, and whether any real token is around each `(B, K)`."""
        wide = torch.promote_types(x.dtype, torch.float32)  # half a number is too little to tell places apart
        sizes = torch.tensor(x.shape[1:-1], dtype=wide, device=x.device)
        places = ((2 * points.to(wide) + 1) / sizes - 1).flip(-1)  # -1 and 1 are the borders; the last axis comes first
        places = functional.pad(places, (0, 3 - self.rank))
        grid = places.reshape(places.shape[0], 1, 1, -1, 3)  # (B, 1, 1, K, 3)
        missing = [1] * (3 - self.rank)
        values = _at(_volume(x.to(wide), missing), grid)  # (B, K, C)
        if mask is None:
            return values.to(x.dtype), values.new_ones(values.shape[:2], dtype=torch.bool)
        real = _at(_volume(mask.unsqueeze(-1).to(wide), missing), grid)  # (B, K, 1)
        seen = real.squeeze(-1) > _SOMETHING
        return (values / real.clamp(min=_SOMETHING)).to(x.dtype), seen


def _volume(x: Tensor, missing: Sequence[int]) -> Tensor:
    """`(B, *S, C)` as `(B, C, *three axes)`."""
    return x.movedim(-1, 1).reshape(x.shape[0], x.shape[-1], *missing, *x.shape[1:-1])


def _at(volume: Tensor, grid: Tensor) -> Tensor:
    """Values `(B, K, C)` of a volume at places, linear in between."""
    found = functional.grid_sample(volume, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return found.flatten(2).transpose(1, 2)
