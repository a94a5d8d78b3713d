"""A space-time transformer of skeletons: tokens on the grid time × joints, any two-axis mixer of the attention core.

    coordinates (B, P, T, J, D) → streams (B P, T, J, F) → stem (B P, T / 4, J, C) → blocks → gated pool → logits

>>> import torch
>>> from shared_attention import build
>>> network = SkeletonTransformer(3, 5, axes=2, parents=(0, 0, 1), mixer=lambda dim: build("full", dim, rank=2))
>>> output = network(torch.zeros(2, 1, 32, 3, 2), torch.ones(2, 1, 32, 3))
>>> output.logits.shape, output.importance.shape  # (B, classes), (B, P, T / 4, J)
(torch.Size([2, 5]), torch.Size([2, 1, 8, 3]))
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from domains.video.skeleton_action.streams import STREAMS, StreamName, stack_streams, stream_channels
from shared_attention import TokenMixer
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["SkeletonOutput", "SkeletonTransformer"]

_DEVIATION = 0.02
_STEM_STRIDES = (2, 2)


class SkeletonOutput(NamedTuple):
    """What a network says of a batch of clips.

    Attributes:
        logits: `(B, classes)`.
        importance: `(B, P, T / 4, J)`, how much each joint counts over time; of each person it sums to one.
        each: `(streams, B, classes)`, the logits of the networks of single streams under late fusion; else None.
    """

    logits: Tensor
    importance: Tensor
    each: Tensor | None = None


class SkeletonTransformer(nn.Module):
    """Streams, a stem of convolutions along time, blocks of a mixer over time × joints, a gated pool, a linear layer.

    Persons share the network; the mean over those that are there is classified.

    Args:
        joints: Joints `J` of a skeleton.
        classes: Logits.
        axes: Coordinates `D` of a joint, 2 or 3.
        parents: The joint before each joint along the body.
        mixer: Makes a mixer of two grid axes for a width.
        streams: What is seen of a skeleton.
        dim: Channels `C`.
        depth: Blocks.
        expansion: Width of a feed-forward part over `dim`.
        dropout: Probability that a channel is dropped in training, after the stem and before the last layer.
        drop_path: Share of clips for which the last block is left out in training; it rises linearly from 0.

    Raises:
        ValueError: Parents, streams or sizes do not fit.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(
        self,
        joints: int,
        classes: int,
        *,
        axes: int,
        parents: Sequence[int],
        mixer: Callable[[int], TokenMixer],
        streams: Sequence[StreamName] = STREAMS,
        dim: int = 64,
        depth: int = 3,
        expansion: float = 2.0,
        dropout: float = 0.1,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        if len(parents) != joints or not all(0 <= one < joints for one in parents):
            raise ValueError(f"parents {tuple(parents)} do not fit {joints} joints")
        if not streams or len(set(streams)) != len(streams):
            raise ValueError(f"streams {tuple(streams)}; allowed are one or more of {', '.join(STREAMS)}, each once")
        self.joints, self.axes, self.parents, self.streams = joints, axes, tuple(parents), tuple(streams)
        channels = stream_channels(streams, joints=joints, axes=axes)
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("deviation", torch.ones(channels))
        self.stem = _stem(channels, dim)
        self.joint_place = nn.Parameter(torch.randn(joints, dim) * _DEVIATION)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(mixer(dim), FeedForward(dim, hidden=round(dim * expansion))) for _ in range(depth)
        )
        self.rates = [drop_path * number / max(1, depth - 1) for number in range(depth)]
        self.norm = nn.LayerNorm(dim)
        self.pool = GatedPool(dim, rank=2, hidden=dim)
        self.head = nn.Linear(dim, classes)

    def look(self, coordinates: Tensor, seen: Tensor) -> Tensor:
        """Streams `(B, T, J, F)` of coordinates `(B, T, J, D)`, before they are standardised."""
        return stack_streams(coordinates, seen, streams=self.streams, parents=self.parents)

    def forward(self, coordinates: Tensor, seen: Tensor) -> SkeletonOutput:
        """Looks at clips.

        Args:
            coordinates: `(B, P, T, J, D)`, floating point, normalised; at most `P` persons.
            seen: `(B, P, T, J)`, 1 where a joint was seen; a person without any is not there.

        Raises:
            ValueError: The shapes do not fit the network.
        """
        shape = tuple(coordinates.shape)
        if len(shape) != 5 or shape[3:] != (self.joints, self.axes) or tuple(seen.shape) != shape[:4]:
            raise ValueError(
                f"coordinates {shape} and seen {tuple(seen.shape)}; allowed are (B, P, T, {self.joints}, {self.axes}) "
                "and the same without the last axis"
            )
        batch, persons = shape[:2]
        streams = self.look(coordinates.flatten(0, 1), seen.flatten(0, 1))  # (B P, T, J, F)
        x = self.stem(((streams - self.mean) / self.deviation).permute(0, 3, 1, 2))  # (B P, C, T / 4, J)
        x = x.permute(0, 2, 3, 1) + self.joint_place + _time_place(x.shape[2], x.shape[1]).to(x)[:, None]
        x = self.drop(x)  # (B P, T / 4, J, C)
        for block, rate in zip(self.blocks, self.rates, strict=True):
            x = _drop_path(x, block(x), rate if self.training else 0.0)
        x = self.norm(x)
        weights = self.pool.weights(x)  # (B P, 1, N)
        pooled = (weights.to(x.dtype) @ x.flatten(1, 2)).reshape(batch, persons, -1)  # (B, P, C)
        there = seen.flatten(2).amax(2).unsqueeze(-1)  # (B, P, 1)
        mean = (pooled * there).sum(1) / there.sum(1).clamp(min=1)  # (B, C)
        importance = weights.reshape(batch, persons, x.shape[1], self.joints) * there.unsqueeze(-1)
        return SkeletonOutput(self.head(self.drop(mean)), importance)


def _stem(channels: int, dim: int) -> nn.Sequential:
    """Along time only: a joint sees itself, so that places stay what they are."""
    layers: list[nn.Module] = []
    for before, kernel, stride in zip((channels, dim), (5, 3), _STEM_STRIDES, strict=True):
        layers += [
            nn.Conv2d(before, dim, (kernel, 1), (stride, 1), (kernel // 2, 0), bias=False),
            nn.BatchNorm2d(dim),
            nn.GELU(),
        ]
    return nn.Sequential(*layers)


def _time_place(steps: int, dim: int) -> Tensor:
    """Sines and cosines `(T, C)` of the place in time, for any number of steps (Vaswani et al., 2017)."""
    rates = torch.exp(torch.arange(0, dim, 2) * (-torch.log(torch.tensor(100.0)) / dim))
    angles = torch.arange(steps).unsqueeze(1) * rates  # (T, C / 2)
    return torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :dim] * 0.1


def _drop_path(before: Tensor, after: Tensor, rate: float) -> Tensor:
    if not rate:
        return after
    kept = torch.rand(len(before), *(1,) * (before.ndim - 1), device=before.device) >= rate
    return before + (after - before) * kept / (1 - rate)
