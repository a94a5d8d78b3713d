"""Which network turns tiles into features."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from pipelines.config.paths import FilePath
from pipelines.config.section import Section

__all__ = ["EfficientNetLite0", "EncoderSettings", "TimmEncoder", "TorchScriptEncoder"]

Size = Annotated[int, Field(ge=16, le=4096)]
Channels = tuple[float, float, float]


class EfficientNetLite0(Section):
    """EfficientNet-lite0 trained on ImageNet; its weights are installed with Pulvinar."""

    name: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    """Encoder."""
    weights: FilePath | None = None
    """A safetensors file of other weights of the same network; null takes those that are installed."""
    size: Size | None = None
    """Side that tiles are resized to, in pixels; null takes tiles of any size as they are."""


class TimmEncoder(Section):
    """Any model of timm: weights that are here or, when asked for, from the model hub. Needs `pulvinar[pretrained]`."""

    name: Literal["timm"] = "timm"
    """Encoder."""
    model: str = Field(min_length=1)
    """Name of the model in timm, for example `vit_small_patch16_224.dino`."""
    weights: FilePath | None = None
    """A local file of weights, safetensors or .pth."""
    download: bool = False
    """Whether the weights may be fetched from the model hub; nothing is ever fetched without this."""
    size: Size | None = None
    """Side that tiles are resized to, in pixels; null takes the size that the model was trained with."""


class TorchScriptEncoder(Section):
    """A TorchScript file of your own: `(B, 3, size, size)` normalised colours in, `(B, features)` out."""

    name: Literal["torchscript"] = "torchscript"
    """Encoder."""
    file: FilePath
    """The file, as `torch.jit.save` wrote it. A TorchScript file holds code: use files from sources you trust."""
    size: Size = 224
    """Side that tiles are resized to, in pixels."""
    mean: Channels = (0.485, 0.456, 0.406)
    """Mean of each colour (red, green, blue, from 0 to 1) that is subtracted."""
    std: Channels = (0.229, 0.224, 0.225)
    """Standard deviation of each colour that is divided by."""


EncoderSettings = Annotated[EfficientNetLite0 | TimmEncoder | TorchScriptEncoder, Field(discriminator="name")]
"""The encoder, by `name`."""
