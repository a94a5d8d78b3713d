"""What sees single frames: pictures in, maps of features out.

encoder = FrameEncoder(SmallEncoder((24, 48)), grid=(3, 3))
encoder(torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8)).shape      # (2, 8, 3, 3, 48)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipelines.encoders.efficientnet import STAGES, EfficientNetLite0, imagenet_weights
from pipelines.training.machine import to_channels_last

__all__ = ["FrameEncoder", "SmallEncoder", "StagedEfficientNet"]

_MEAN = (0.485, 0.456, 0.406)
_DEVIATION = (0.229, 0.224, 0.225)
_AT_ONCE = 64
"""Frames that a frozen encoder looks at together: memory stays small whatever the clip."""
_GAIN = 4.0
"""Factor of the difference of two frames, so that usual motion fills the range of a picture."""


class SmallEncoder(nn.Module):
    """Convolutions of stride 2 with batch norms, from scratch.

    Args:
        channels: Of each layer after the stem.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        widths = [3, max(8, channels[0] // 2), *channels]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(before, after, 3, 2, 1, bias=False), nn.BatchNorm2d(after), nn.GELU())
                for before, after in pairwise(widths)
            )
        )
        self.channels = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` → `(B, C, h, w)`."""
        out: Tensor = self.layers(x)
        return out


class StagedEfficientNet(EfficientNetLite0):
    """EfficientNet-lite0 as far as one of its stages.

    Args:
        stages: Stages that are run; 8 is all, with the last convolution.
        pretrained: Whether it starts from ImageNet.
        frozen_stages: The stem and so many stages keep their weights; 8 is everything.
    """

    def __init__(self, *, stages: int = 8, pretrained: bool = True, frozen_stages: int = 0) -> None:
        super().__init__(frozen_stages=frozen_stages, frozen_norms=True)
        if pretrained:
            self.load_published(imagenet_weights())
        self.whole = stages > len(STAGES)
        if not self.whole:
            del self.stages[stages:], self.head, self.head_norm
            self._frozen = [part for part in self._frozen if any(part is one for one in self.modules())]
            self.channels = STAGES[stages - 1][-1]

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` → `(B, C, h, w)`."""
        if self.whole:
            return super().forward(x)
        x = functional.relu6(self.stem_norm(self.stem(x)), inplace=True)
        for stage in self.stages:
            x = stage(x)
        return x


class FrameEncoder(nn.Module):
    """Features of single frames on a small grid.

    Args:
        network: Pictures `(B, 3, H, W)`, normalised as ImageNet's, to maps `(B, C, h, w)`; it has `channels`.
        grid: Rows and columns that maps are averaged to.
        frozen: Whether its weights stay as they are.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, *, grid: tuple[int, int], frozen: bool = False) -> None:
        super().__init__()
        self.network, self.grid, self.frozen = network, grid, frozen
        self.channels = int(network.channels)  # type: ignore[arg-type]
        self.register_buffer("mean", torch.tensor(_MEAN)[:, None, None] * 255, persistent=False)
        self.register_buffer("deviation", torch.tensor(_DEVIATION)[:, None, None] * 255, persistent=False)
        if frozen:
            network.requires_grad_(False)
            to_channels_last(network)  # frames come so, and on a CPU that is a third faster
        self.train()  # what is frozen leaves training mode at once

    def forward(self, frames: Tensor, partners: Tensor | None = None) -> Tensor:
        """Features of frames, or of what changes between two.

        Args:
            frames: uint8 `(B, T, H, W, 3)`.
            partners: The same, a moment later: their differences, without colour, are looked at instead.

        Returns:
            `(B, T, h, w, C)`.
        """
        pictures = frames.flatten(0, 1)
        others = None if partners is None else partners.flatten(0, 1)
        at_once = _AT_ONCE if self.frozen else len(pictures)
        maps = []
        for first in range(0, len(pictures), at_once):
            piece = slice(first, first + at_once)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
                seen = self._normal(pictures[piece], None if others is None else others[piece])
                maps.append(functional.adaptive_avg_pool2d(self.network(seen), self.grid))
        made = torch.cat(maps).permute(0, 2, 3, 1)  # (B T, h, w, C)
        return made.reshape(*frames.shape[:2], *made.shape[1:])

    def _normal(self, pictures: Tensor, others: Tensor | None) -> Tensor:
        x = pictures.permute(0, 3, 1, 2).float()  # (B, 3, H, W), channels last in memory
        if others is not None:
            change = (others.permute(0, 3, 1, 2).float() - x).abs().mean(1, keepdim=True)
            x = (change * _GAIN).clamp(max=255).expand_as(x)
        return (x - self.mean) / self.deviation

    def train(self, mode: bool = True) -> FrameEncoder:
        """Training mode, except for what is frozen."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self
