"""Backbones behind one face: `(image, side)` → branch → feature `(B, C)`."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from domains.reid.models.pooling import GeneralisedMean, mean_of_stripes
from domains.reid.models.vit import VisionTransformer
from pipelines.encoders.efficientnet import EfficientNetLite0

__all__ = ["ConvolutionalFeatures", "GateInMap", "MixerInMap", "TransformerFeatures"]


class ConvolutionalFeatures(nn.Module):
    """Pooled maps of a CNN.

    Args:
        network: `(B, 3, H, W)` → `(B, C, h, w)`.
        pool: `gem` (generalised mean, learned) or `mean`.
        stripes: Horizontal stripes that are pooled apart; the feature has so many times the channels.
    """

    def __init__(self, network: EfficientNetLite0, *, pool: Literal["gem", "mean"] = "gem", stripes: int = 1) -> None:
        super().__init__()
        self.network, self.stripes = network, stripes
        self.pool = GeneralisedMean(stripes=stripes) if pool == "gem" else None

    def forward(self, image: Tensor, side: Tensor | None = None) -> dict[str, Tensor]:
        maps = self.network(image)
        return {"global": mean_of_stripes(maps.float(), self.stripes) if self.pool is None else self.pool(maps)}


class TransformerFeatures(nn.Module):
    """The class token (or mean token) of a ViT."""

    def __init__(self, vit: VisionTransformer) -> None:
        super().__init__()
        self.vit = vit

    def forward(self, image: Tensor, side: Tensor | None = None) -> dict[str, Tensor]:
        return {"global": self.vit.pooled(self.vit(image, side))}


class GateInMap(nn.Module):
    """A gate of the attention core on a feature map `(B, C, H, W)`.

    Args:
        gate: Maps `(B, H, W, C)` to the same.
    """

    def __init__(self, gate: nn.Module) -> None:
        super().__init__()
        self.gate = gate

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.gate(x.movedim(1, -1)).movedim(-1, 1)
        return out


class MixerInMap(nn.Module):
    """A mixer of the attention core added to a feature map `(B, C, H, W)`; its gain starts at 0.

    Args:
        mixer: Maps `(B, H, W, C)` to the same.
        channels: C.
    """

    def __init__(self, mixer: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mixer = mixer
        self.gain = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mixed = self.gain * self.mixer(self.norm(x.movedim(1, -1)))
        out: Tensor = x + mixed.movedim(-1, 1).to(x.dtype)
        return out
