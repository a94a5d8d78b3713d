"""A pyramid of the grid, summed up at its coarsest level, modulates every level on the way back (PMAA).

>>> import torch
>>> from shared_attention import build
>>> build("pmaa", 16, rank=2)(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import positive
from shared_attention.blocks import Block
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution, channels_first, channels_last
from shared_attention.norms import BatchNorm
from shared_attention.registry import Card, Source, register

__all__ = ["MultiScaleAggregation", "Pyramid"]

_AVERAGES: dict[int, Callable[..., Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
_LARGEST: dict[int, Callable[..., Tensor]] = {
    1: functional.max_pool1d,
    2: functional.max_pool2d,
    3: functional.max_pool3d,
}
EPS = 1e-6
"""Of the normalisations before the modulation."""


def _averaged(x: Tensor, mask: Tensor | None, grid: Sequence[int]) -> Tensor:
    """Means of the real tokens of equal parts of the grid: `(B, *S, C)` to `(B, *grid, C)`."""
    pool = _AVERAGES[len(grid)]
    mean = channels_last(pool(channels_first(x), tuple(grid)))
    if mask is None:
        return mean
    share = channels_last(pool(mask.unsqueeze(1).to(x.dtype), tuple(grid)))  # (B, *grid, 1)
    return mean / share.masked_fill(share == 0, 1.0)


def _nearest(x: Tensor, grid: Sequence[int]) -> Tensor:
    """Each token of `grid` takes the token at its place: `(B, *S, C)` to `(B, *grid, C)`."""
    return channels_last(functional.interpolate(channels_first(x), tuple(grid)))


def _halved(mask: Tensor | None) -> Tensor | None:
    """Where a convolution of three with stride two sees a real token: bool `(B, *S)` to one of half the sides."""
    if mask is None:
        return None
    return _LARGEST[mask.ndim - 1](mask.unsqueeze(1).float(), 3, 2, 1).squeeze(1) > 0


class _NormedConvolution(nn.Module):
    """A convolution without bias, and a batch normalisation."""

    def __init__(self, dim: int, out: int, *, rank: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = Convolution(
            dim, out, rank=rank, kernel=kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False
        )
        self.norm = BatchNorm(out)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return blank(self.norm(self.conv(x), mask), mask)


class _Level(nn.Module):
    """Two convolutions, the second of one token, with a residual where the sizes stay."""

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        rank: int,
        kernel: int,
        activation: bool,
        stride: int = 1,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.activation = activation
        self.first = _NormedConvolution(dim, dim, rank=rank, kernel=kernel, stride=stride, groups=groups)
        self.second = _NormedConvolution(dim, out, rank=rank, kernel=1)
        self.residual = stride == 1 and dim == out

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        inside = self.first(x, mask)
        out: Tensor = self.second(inside.relu() if self.activation else inside, mask)
        return x + out if self.residual else out


class _Fusion(nn.Module):
    """Local tokens times a sigmoid of the coarse ones, plus the coarse ones (local interaction)."""

    def __init__(self, dim: int, *, rank: int, kernel: int) -> None:
        super().__init__()
        self.local = _NormedConvolution(dim, dim, rank=rank, kernel=kernel, groups=dim)
        self.added = _NormedConvolution(dim, dim, rank=rank, kernel=kernel, groups=dim)
        self.gate = _NormedConvolution(dim, dim, rank=rank, kernel=kernel, groups=dim)

    def forward(self, fine: Tensor, mask: Tensor | None, coarse: Tensor, coarse_mask: Tensor | None) -> Tensor:
        grid = fine.shape[1:-1]
        gate = _nearest(self.gate(coarse, coarse_mask).sigmoid(), grid)
        return blank(self.local(fine, mask) * gate + _nearest(self.added(coarse, coarse_mask), grid), mask)


class _Modulation(TokenMixer):
    """Values times a large depthwise convolution of the tokens (Conv2Former)."""

    def __init__(self, dim: int, *, rank: int) -> None:
        super().__init__(dim, rank=rank)
        self.before = nn.Linear(dim, dim)
        self.around = Convolution(dim, dim, rank=rank, kernel=11, groups=dim)
        self.value = nn.Linear(dim, dim)
        self.project = nn.Linear(dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        weight = self.around(blank(functional.gelu(self.before(x)), mask))
        return self.project(weight * self.value(x))  # (B, *S, C)


class _ConvolvedPerceptron(TokenMixer):
    """A feed-forward part with a depthwise convolution inside."""

    def __init__(self, dim: int, *, rank: int, ratio: int = 4) -> None:
        super().__init__(dim, rank=rank)
        self.expand = nn.Linear(dim, ratio * dim)
        self.around = Convolution(ratio * dim, ratio * dim, rank=rank, kernel=3, groups=ratio * dim)
        self.contract = nn.Linear(ratio * dim, dim)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        inside = blank(functional.gelu(self.expand(x)), mask)
        return self.contract(inside + functional.gelu(self.around(inside)))  # (B, *S, C)


class Pyramid(nn.Module):
    """The block without its residual: `(B, *S, C)` to `(B, *S, E)`.

    Args:
        dim: Channels `C` in.
        out: Channels `E` out.
        hidden: Channels of the levels.
        rank: Grid axes.
        levels: Levels of the pyramid, each half as large along every axis.
        form: What the way back starts from.
        activation: Whether a ReLU stands between the two convolutions of a level.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        hidden: int,
        rank: int,
        levels: int,
        form: Literal["published", "paper"],
        activation: bool,
    ) -> None:
        super().__init__()
        used = levels - 1 if form == "published" and levels > 2 else levels
        self.start = levels - 3 if form == "published" else levels - 1
        self.expand = _Level(dim, hidden, rank=rank, kernel=1, activation=activation, groups=dim)
        self.levels = nn.ModuleList(
            _Level(hidden, hidden, rank=rank, kernel=3, activation=activation, stride=2 if number else 1)
            for number in range(levels)
        )
        modulation = Block(_Modulation(hidden, rank=rank), layer_scale=1e-6, eps=EPS)
        perceptron = Block(_ConvolvedPerceptron(hidden, rank=rank), layer_scale=1e-6, eps=EPS)
        self.coarse = nn.ModuleList([modulation, perceptron])
        self.fusions = nn.ModuleList(_Fusion(hidden, rank=rank, kernel=1) for _ in range(used))
        self.back = nn.ModuleList(_Fusion(hidden, rank=rank, kernel=5) for _ in range(levels - 1))
        self.contract = nn.Linear(hidden, out)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        masks = [mask]
        found = [self.levels[0](self.expand(x, mask), mask)]
        for level in list(self.levels)[1:]:
            masks.append(_halved(masks[-1]))
            found.append(level(found[-1], masks[-1]))
        coarsest = found[-1].shape[1:-1]
        coarse = torch.stack([_averaged(one, real, coarsest) for one, real in zip(found, masks, strict=True)]).sum(0)
        for block in self.coarse:
            coarse = block(coarse, mask=masks[-1])
        fused = [
            fusion(one, real, coarse, masks[-1]) for fusion, one, real in zip(self.fusions, found, masks, strict=False)
        ]
        out, below = fused[self.start], masks[self.start]
        for number in reversed(range(len(self.back))):
            out = self.back[number](fused[number], masks[number], out, below)
            below = masks[number]
        return self.contract(out)  # (B, *S, E)


@register(
    Card(
        name="pmaa",
        title="Multi-scale attention module (PMAA)",
        paper="Zou et al., PMAA: A Progressive Multi-scale Attention Autoencoder Model for High-performance Cloud "
        "Removal from Multi-temporal Satellite Imagery, ECAI 2023",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="2*N*expand*C**2 + N*(3**rank + 1)*(expand*C)**2*2**rank/(2**rank - 1) + 3*N*expand*C*5**rank",
        formula="l_0 = conv(x);  l_{n+1} = conv, stride 2, of l_n\n"
        "g = Conv2Former(Σ_n mean of l_n on the coarsest grid)\n"
        "f_n = W l_n ⊙ σ(W g↑) + W g↑;  from coarse to fine:  o ← dw(f_n) ⊙ σ(dw(o)↑) + dw(o)↑\n"
        "y = x + W o",
        source=Source("XavierJiezou/PMAA", "f30246d", "MIT"),
        fixtures=("pmaa_uconv_block",),
        notes="The released code starts the way back from the third coarsest level beside the second coarsest, so "
        "that the coarsest one has no part in it; this is the default, as its weights were trained so. `form='paper'` "
        "starts from the coarsest. The published networks have four times as many channels inside, and five levels. "
        "The reference was recorded without the ReLU that timm puts after the first normalisation of each pair; the "
        "default has it, and `load_published` takes it by `act='relu'`.",
        small={"levels": 3},
    )
)
class MultiScaleAggregation(TokenMixer):
    """Expand, go down the levels, modulate their sum at the coarsest, fuse it into each, go back up, residual.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        expand: Channels inside, as a multiple of `C`.
        levels: Levels of the pyramid, each half as large along every axis; two or more.
        form: `published` leaves the coarsest level out on the way back; `paper` starts from it.
        activation: Whether a ReLU stands between the two convolutions of a level.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        expand: float = 1.0,
        levels: int = 4,
        form: Literal["published", "paper"] = "published",
        activation: bool = True,
    ) -> None:
        super().__init__(dim, rank=rank)
        positive("expand", expand)
        if levels < 2:
            raise ValueError(f"levels {levels} is below 2")
        hidden = max(1, round(expand * dim))
        self.pyramid = Pyramid(dim, dim, hidden=hidden, rank=rank, levels=levels, form=form, activation=activation)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return x + self.pyramid(x, mask)  # (B, *S, C)
