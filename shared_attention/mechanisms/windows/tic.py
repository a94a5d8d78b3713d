"""A convolution whose input attends to its own neighbourhood first (MSA-Conv of TiC).

>>> import torch
>>> from shared_attention import build
>>> build("tic", 32, rank=2, kernel=3, dilation=2)(torch.zeros(1, 9, 6, 32)).shape  # (B, *S, C) stays
torch.Size([1, 9, 6, 32])
"""

from __future__ import annotations

import itertools
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis
from shared_attention.attend import token_softmax
from shared_attention.contract import TokenMixer, blank
from shared_attention.convolutions import Convolution
from shared_attention.grids import pad_grid
from shared_attention.registry import Card, Source, register

__all__ = ["AttentionConvolution", "Tic"]


class AttentionConvolution(nn.Module):
    """Attention to the neighbourhood, residual, convolution, ReLU; to any number of channels and with a stride.

    Args:
        dim: Channels in.
        out: Channels out.
        kernel: Size of the neighbourhood and of the convolution along each axis, odd.
        dilation: Distance of the neighbours along each axis; the convolution is not dilated.
        stride: Step of the convolution along each axis.
        padding: Zeros around the convolution along each axis; None for as many as keep the grid.
        bias: Whether the convolution has an additive bias.
        border: Whether what lies outside the grid is seen as keys of zeros, or hidden.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        kernel: tuple[int, ...],
        dilation: tuple[int, ...],
        stride: int | tuple[int, ...] = 1,
        padding: int | tuple[int, ...] | None = None,
        bias: bool = False,
        border: Literal["zeros", "hidden"] = "zeros",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if any(size % 2 == 0 for size in kernel):
            raise ValueError(f"kernel {kernel} holds an even size, a neighbourhood has a middle")
        self.kernel, self.dilation, self.border, self.dropout = kernel, dilation, border, dropout
        self.scale = dim**-0.5
        self.qkv = nn.Linear(dim, 3 * dim)
        self.mix = Convolution(dim, out, rank=len(kernel), kernel=kernel, stride=stride, padding=padding, bias=bias)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, *S, C)` with padded tokens zero to `(B, *S', E)`."""
        q, k, v = self.qkv(x).chunk(3, -1)
        q = q * self.scale
        logits = torch.stack([(q * key).sum(-1) for key in self._neighbours(blank(k, mask))], -1)  # (B, *S, K)
        visible = None
        if self.border == "hidden":
            real = torch.ones(x.shape[:-1], dtype=torch.bool, device=x.device) if mask is None else mask
            visible = torch.cat(self._neighbours(real.unsqueeze(-1)), -1)  # (B, *S, K)
        weights = token_softmax(logits, mask=visible).to(v.dtype)
        if self.dropout and self.training:
            weights = functional.dropout(weights, self.dropout)
        values = self._neighbours(blank(v, mask))
        seen = sum(weight.unsqueeze(-1) * value for weight, value in zip(weights.unbind(-1), values, strict=True))
        return self.mix(blank(x + seen, mask)).relu()

    def _neighbours(self, x: Tensor) -> list[Tensor]:
        """For each place of the kernel the neighbours there: views of `(B, *S, C)`, row-major over the kernel."""
        around = [size // 2 * step for size, step in zip(self.kernel, self.dilation, strict=True)]
        grid = x.shape[1:-1]
        padded = pad_grid(x, around, around)
        starts = itertools.product(
            *(range(0, size * step, step) for size, step in zip(self.kernel, self.dilation, strict=True))
        )
        return [
            padded[(slice(None), *(slice(at, at + size) for at, size in zip(start, grid, strict=True)))]
            for start in starts
        ]


@register(
    Card(
        name="tic",
        title="Attention in a convolution (TiC, MSA-Conv)",
        paper="Zhang et al., TiC: Exploring Vision Transformer in Convolution, arXiv:2310.04134",
        year=2023,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="3*N*C**2 + 2*N*kernel**rank*C + N*kernel**rank*C**2",
        formula="a_i = x_i + Σ_{j ∈ kernel around i} softmax_j(q_i · k_j / √C) v_j\ny = relu(conv_kernel(a))",
        source=Source("zs670980918/MSA-Conv", "2d96f54", "none"),
        fixtures=("tic_msaconv",),
        notes="One head, despite its name. As released, what lies outside the image is seen as keys and values of "
        "zeros (`border='zeros'`, the default); `hidden` leaves it out. The dilation is that of the neighbourhood, "
        "not of the convolution. Input and output are added and rectified inside. The loaded module also serves the "
        "authors' stride and other channels out.",
    )
)
class Tic(TokenMixer):
    """Softmax attention of each token to its neighbourhood, then a convolution and ReLU.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        kernel: Size of the neighbourhood and of the convolution along each axis, odd.
        dilation: Distance of the neighbours along each axis.
        bias: Whether the convolution has an additive bias.
        border: Whether what lies outside the grid is seen as keys of zeros, or hidden.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        kernel: int | tuple[int, ...] = 3,
        dilation: int | tuple[int, ...] = 1,
        bias: bool = False,
        border: Literal["zeros", "hidden"] = "zeros",
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.convolution = AttentionConvolution(
            dim,
            dim,
            kernel=per_axis("kernel", kernel, rank),
            dilation=per_axis("dilation", dilation, rank),
            bias=bias,
            border=border,
            dropout=dropout,
        )

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.convolution(x, mask)
