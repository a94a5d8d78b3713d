"""Batch norms between features and decisions: one for all images (BNNeck), or with statistics of each camera.

neck = CameraNeck(1280, cameras=2)
neck(torch.zeros(4, 1280), torch.tensor([1, 2, 0, 1])).shape    # (4, 1280); camera 0 is unknown
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["CameraNeck", "make_neck"]


class CameraNeck(nn.Module):
    """A batch norm without shift whose mean and variance are those of the image's own camera.

    Each camera moves all its features alike, by its colours and its background, and so sets pictures of one identity
    apart. Statistics of each camera take that out (Zhuang et al., Rethinking the distribution gap of person
    re-identification with camera-based batch normalization, ECCV 2020; there in every layer, here in the neck alone).
    They are learned in training like any batch norm's; nothing is estimated from the images that are served. An image
    of an unknown camera (0) takes the statistics of all cameras together.

    Args:
        dim: Channels of a feature.
        cameras: Known cameras, numbered from 1.

    Raises:
        ValueError: There is no camera.
    """

    def __init__(self, dim: int, cameras: int) -> None:
        super().__init__()
        if cameras < 1:
            raise ValueError(f"{cameras} cameras have no statistics")
        self.weight = nn.Parameter(torch.ones(dim))
        self.norms = nn.ModuleList(nn.BatchNorm1d(dim, affine=False) for _ in range(cameras + 1))

    def forward(self, x: Tensor, camera: Tensor | None = None) -> Tensor:
        """Features `(B, C)` and camera numbers `(B,)` → `(B, C)`; without numbers all cameras are unknown."""
        whole: Tensor = self.norms[0](x)
        if camera is None:
            return whole * self.weight
        out = whole
        for number in range(1, len(self.norms)):
            own = camera == number
            norm = cast("nn.BatchNorm1d", self.norms[number])
            if self.training and int(own.sum()) < 2:  # one image has no variance; the statistics so far serve it
                moved = nn.functional.batch_norm(x, norm.running_mean, norm.running_var, eps=norm.eps)
                out = torch.where(own[:, None], moved.to(out.dtype), out)
                continue
            if bool(own.any()):
                out = out.masked_scatter(own[:, None].expand_as(out), norm(x[own]).to(out.dtype))
        return out * self.weight


def make_neck(dim: int, cameras: int) -> nn.Module:
    """The usual neck, a batch norm whose shift stays 0, or one with statistics of each of so many cameras."""
    if cameras:
        return CameraNeck(dim, cameras)
    neck = nn.BatchNorm1d(dim)
    neck.bias.requires_grad_(False)
    return neck
