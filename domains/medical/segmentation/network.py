"""A U-shaped residual network in two or three dimensions, with a token mixer at any level.

    network = ResidualUNet(1, 3, channels=(16, 32, 64), strides=((2, 2, 2), (2, 2, 2)))
    logits = network.eval()(torch.zeros(2, 1, 40, 56, 40))  # (2, 3, 40, 56, 40)

In training it returns one set of logits for each supervised resolution, the full one first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MixerResidual", "ResidualBlock", "ResidualUNet"]

_CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_NORM: dict[int, type[nn.Module]] = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_DROPOUT: dict[int, type[nn.Module]] = {2: nn.Dropout2d, 3: nn.Dropout3d}
_SLOPE = 0.01


class ResidualBlock(nn.Module):
    """Two convolutions with instance norm, and a shortcut that is projected where the shape changes.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        stride: Stride of the first convolution, one number for each axis.
        dropout: Probability of dropping a whole channel.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        rank = len(stride)
        convolution, norm = _CONVOLUTION[rank], _NORM[rank]
        self.first = convolution(in_channels, out_channels, 3, tuple(stride), 1, bias=False)
        self.first_norm = norm(out_channels, affine=True)
        self.second = convolution(out_channels, out_channels, 3, 1, 1, bias=False)
        self.second_norm = norm(out_channels, affine=True)
        self.dropout = _DROPOUT[rank](dropout) if dropout else nn.Identity()
        self.stride = tuple(stride)
        self.project = convolution(in_channels, out_channels, 1, bias=False) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C_in, *S)` → `(B, C_out, *S / stride)`."""
        shortcut = x
        if any(step > 1 for step in self.stride):
            pool = functional.avg_pool2d if len(self.stride) == 2 else functional.avg_pool3d
            shortcut = pool(shortcut, self.stride)
        if self.project is not None:
            shortcut = self.project(shortcut)
        y = functional.leaky_relu(self.first_norm(self.first(x)), _SLOPE, inplace=True)
        y = self.dropout(self.second_norm(self.second(y)))
        return functional.leaky_relu(y + shortcut, _SLOPE, inplace=True)


class MixerResidual(nn.Module):
    """A pre-norm residual around a channels-last token mixer; its gain starts at 0, so it starts as the identity.

    Args:
        mixer: Maps `(B, *S, C)` to `(B, *S, C)`.
        channels: C.
    """

    def __init__(self, mixer: nn.Module, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.mixer = mixer
        self.gain = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C, *S)` → `(B, C, *S)`."""
        tokens = x.movedim(1, -1)  # (B, *S, C)
        mixed = self.gain * self.mixer(self.norm(tokens))  # (B, *S, C)
        out: Tensor = x + mixed.movedim(-1, 1).to(x.dtype)
        return out


class ResidualUNet(nn.Module):
    """A residual encoder, a light decoder, and logits at one or more resolutions.

    Any input size is taken: it is padded to what the strides divide, and the logits are cut back.

    Args:
        in_channels: Channels of the image.
        classes: Classes with background.
        channels: Channels of each level, full resolution first.
        strides: Stride into each level after the first, one number for each axis; their length is the rank.
        depths: Residual blocks of each level; default one.
        supervised: Resolutions that give logits in training, counted from the full one.
        dropout: Probability of dropping a whole channel in a block.
        mixer: Makes a token mixer for a number of channels.
        mixer_levels: Levels of the encoder that end with a mixer.
    """

    def __init__(
        self,
        in_channels: int,
        classes: int,
        *,
        channels: Sequence[int],
        strides: Sequence[Sequence[int]],
        depths: Sequence[int] | None = None,
        supervised: int = 1,
        dropout: float = 0.0,
        mixer: Callable[[int], nn.Module] | None = None,
        mixer_levels: Sequence[int] = (),
    ) -> None:
        super().__init__()
        if len(strides) != len(channels) - 1:
            raise ValueError(f"strides has {len(strides)} entries; {len(channels)} levels take {len(channels) - 1}")
        depths = tuple(depths) if depths is not None else (1,) * len(channels)
        rank = len(strides[0])
        levels = [(1,) * rank, *(tuple(stride) for stride in strides)]
        self.multiple = tuple(math.prod(stride[axis] for stride in levels) for axis in range(rank))

        self.encoder = nn.ModuleList()
        width = in_channels
        for level, (out, stride, depth) in enumerate(zip(channels, levels, depths, strict=True)):
            blocks: list[nn.Module] = [ResidualBlock(width, out, stride=stride, dropout=dropout)]
            blocks += [ResidualBlock(out, out, stride=levels[0], dropout=dropout) for _ in range(depth - 1)]
            if mixer is not None and level in mixer_levels:
                blocks.append(MixerResidual(mixer(out), out))
            self.encoder.append(nn.Sequential(*blocks))
            width = out

        self.upward = nn.ModuleList()
        self.decoder = nn.ModuleList()
        for level in range(len(channels) - 2, -1, -1):
            out, stride = channels[level], levels[level + 1]
            self.upward.append(_TRANSPOSED[rank](width, out, stride, stride))
            self.decoder.append(
                nn.Sequential(
                    _CONVOLUTION[rank](2 * out, out, 3, 1, 1, bias=False),
                    _NORM[rank](out, affine=True),
                    nn.LeakyReLU(_SLOPE, inplace=True),
                )
            )
            width = out
        self.heads = nn.ModuleList(_CONVOLUTION[rank](channels[level], classes, 1) for level in range(supervised))
        self._initialise()

    def _initialise(self) -> None:
        mixers = {id(part) for block in self.modules() if isinstance(block, MixerResidual) for part in block.modules()}
        for module in self.modules():
            if id(module) not in mixers and isinstance(module, (nn.Conv2d, nn.Conv3d)):
                nn.init.kaiming_normal_(module.weight, a=_SLOPE, nonlinearity="leaky_relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """`(B, C, *S)` → logits `(B, classes, *S)`; in training a list of them, each at its own resolution."""
        size = x.shape[2:]
        padding: list[int] = []
        for extent, multiple in zip(reversed(size), reversed(self.multiple), strict=True):
            padding += [0, -extent % multiple]
        if any(padding):
            x = functional.pad(x, padding)

        skips: list[Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        outputs: list[Tensor] = []
        for step, (up, block) in enumerate(zip(self.upward, self.decoder, strict=True)):
            level = len(self.upward) - 1 - step
            x = block(torch.cat([up(x), skips[level]], dim=1))
            if level < len(self.heads) and (self.training or level == 0):
                outputs.append(self.heads[level](x))
        full = outputs.pop()
        if any(padding):
            full = full[(slice(None), slice(None), *(slice(0, extent) for extent in size))]
        return [full, *reversed(outputs)] if self.training else full
