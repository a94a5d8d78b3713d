"""Normalisation of channels-last tokens that padded tokens have no part in.

>>> import torch
>>> x, real = torch.randn(2, 6, 8), torch.tensor([[True] * 6, [True] * 4 + [False] * 2])
>>> norm = GroupNorm(8, groups=1)
>>> short = norm(x[1:, :4])  # the second row without its padding
>>> bool(torch.allclose(norm(x.masked_fill(~real[..., None], 0), real)[1:, :4], short, atol=1e-5))
True
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

__all__ = ["BatchNorm", "GroupNorm", "NormName", "make_norm"]

NormName = Literal["layer", "rms", "group", "batch", "none"]


class GroupNorm(nn.Module):
    """Normalise groups of channels over all tokens of a row; weights are those of `torch.nn.GroupNorm`.

    Args:
        dim: Channels `C`.
        groups: Groups, a divisor of the channels.
        eps: Added to the variance.
    """

    def __init__(self, dim: int, *, groups: int = 1, eps: float = 1e-5) -> None:
        super().__init__()
        if dim % groups:
            raise ValueError(f"groups {groups} does not divide {dim} channels")
        self.groups, self.eps = groups, eps
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, *S, C)` to the same; `mask` bool `(B, *S)`, True for a real token, padded tokens are zero."""
        if mask is None:
            rows = x.movedim(-1, 1)
            # not the one of nn.functional, which refuses a single value
            return torch.group_norm(rows, self.groups, self.weight, self.bias, self.eps).movedim(1, -1)
        parts = x.flatten(1, -2).unflatten(-1, (self.groups, -1))  # (B, N, g, C/g)
        real = mask.flatten(1)[:, :, None, None]  # (B, N, 1, 1)
        count = (real.sum(1, keepdim=True) * parts.shape[-1]).clamp(min=1)
        mean = parts.sum((1, 3), keepdim=True) / count
        apart = (parts - mean).masked_fill(~real, 0.0)
        spread = (apart.square().sum((1, 3), keepdim=True) / count + self.eps).rsqrt()
        return (apart * spread).flatten(-2).view_as(x) * self.weight + self.bias


class BatchNorm(nn.BatchNorm1d):
    """Normalise channels over all real tokens of the batch; weights and statistics are those of
    `torch.nn.BatchNorm1d`.
    """

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """`(B, *S, C)` to the same; `mask` bool `(B, *S)`, True for a real token."""
        if mask is None or not self.training:
            return super().forward(x.flatten(0, -2)).view_as(x)
        real = mask.unsqueeze(-1)
        count = real.sum().clamp(min=1)
        axes = tuple(range(x.ndim - 1))
        mean = x.masked_fill(~real, 0.0).sum(axes) / count
        variance = (x - mean).masked_fill(~real, 0.0).square().sum(axes) / count
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            part = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
            unbiased = variance.detach() * count / (count - 1).clamp(min=1)
            self.running_mean.lerp_(mean.detach().to(self.running_mean.dtype), part)
            self.running_var.lerp_(unbiased.to(self.running_var.dtype), part)
        return (x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias


def make_norm(name: NormName, dim: int, *, eps: float | None = None) -> nn.Module:
    """A normalisation by its name; `group` and `batch` take the mask as a second argument.

    Args:
        name: `layer` and `rms` of each token, `group` (one group) of each row, `batch` of each channel, or `none`.
        dim: Channels.
        eps: Added to the variance; 1e-5 by default, 1e-6 for `rms`.
    """
    if name == "layer":
        return nn.LayerNorm(dim, eps=1e-5 if eps is None else eps)
    if name == "rms":
        return nn.RMSNorm(dim, eps=1e-6 if eps is None else eps)
    if name == "group":
        return GroupNorm(dim, eps=1e-5 if eps is None else eps)
    if name == "batch":
        return BatchNorm(dim, eps=1e-5 if eps is None else eps)
    if name == "none":
        return nn.Identity()
    raise ValueError(f"no norm is called {name!r}; there are layer, rms, group, batch, none")
