"""Convolutions of channels-last tokens on one, two and three axes.

>>> import torch
>>> Convolution(16, 32, rank=3, kernel=3)(torch.zeros(2, 4, 5, 6, 16)).shape  # (B, *S, C) to (B, *S, E)
torch.Size([2, 4, 5, 6, 32])
>>> Convolution(16, 16, rank=1, kernel=4, stride=4, padding=0)(torch.zeros(2, 9, 16)).shape
torch.Size([2, 2, 16])

Padded tokens must be zero (`blank` them after a layer with a bias), then they do what zero padding does.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from shared_attention.arguments import per_axis

__all__ = ["Convolution", "channels_first", "channels_last"]

_KINDS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def channels_first(x: Tensor) -> Tensor:
    """`(B, *S, C)` seen as `(B, C, *S)`."""
    return x.movedim(-1, 1)


def channels_last(x: Tensor) -> Tensor:
    """`(B, C, *S)` seen as `(B, *S, C)`."""
    return x.movedim(1, -1)


class Convolution(nn.Module):
    """`(B, *S, C)` to `(B, *S', E)`; weights are those of PyTorch's own convolution, under `conv`.

    Args:
        dim: Channels `C` in.
        out: Channels `E` out.
        rank: Grid axes.
        kernel: Size along each axis.
        stride: Step along each axis.
        padding: Zeros around each axis; None for as many as keep the size of the grid (odd kernels, stride one).
        dilation: Distance of the kernel's taps along each axis.
        groups: Groups of channels, `dim` for a depthwise convolution.
        bias: Whether there is an additive bias.
    """

    def __init__(
        self,
        dim: int,
        out: int,
        *,
        rank: int,
        kernel: int | Sequence[int] = 3,
        stride: int | Sequence[int] = 1,
        padding: int | Sequence[int] | None = None,
        dilation: int | Sequence[int] = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        super().__init__()
        kernel, dilation = per_axis("kernel", kernel, rank), per_axis("dilation", dilation, rank)
        if padding is None:
            padding = [(size - 1) * step // 2 for size, step in zip(kernel, dilation, strict=True)]
        self.conv = _KINDS[rank](
            dim,
            out,
            kernel,  # type: ignore[arg-type]
            per_axis("stride", stride, rank),  # type: ignore[arg-type]
            per_axis("padding", padding, rank, minimum=0),  # type: ignore[arg-type]
            dilation,  # type: ignore[arg-type]
            groups,
            bias,
        )

    def forward(self, x: Tensor) -> Tensor:
        return channels_last(self.conv(channels_first(x)))
