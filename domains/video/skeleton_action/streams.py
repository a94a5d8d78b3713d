"""What a network sees of a skeleton, stream by stream; all of it from coordinates alone.

    joint      where a joint is, and whether it was seen          D + 1 channels
    bone       from the joint before it along the body            D
    motion     to the next frame, and to the one after next       2 D
    distance   to each joint of the same person (DD-Net's idea)   J

The streams of a frame and joint lie side by side and are fused by the first layer of one network; `model.fusion: late`
gives each a network of its own, as is usual for graph convolutions, at four times the cost for four streams.
Distances after Yang et al., "Make Skeleton-based Action Recognition Model Smaller, Faster and Better", 2019.

>>> import torch
>>> x = stack_streams(torch.zeros(2, 8, 3, 2), torch.ones(2, 8, 3), streams=("joint", "bone"), parents=(0, 0, 1))
>>> x.shape  # (B, T, J, F)
torch.Size([2, 8, 3, 5])
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = ["STREAMS", "StreamName", "stack_streams", "stream_channels"]

StreamName = Literal["joint", "bone", "motion", "distance"]
STREAMS: tuple[StreamName, ...] = get_args(StreamName)
_STEPS = (1, 2)
"""Frames that a motion spans."""


def stream_channels(streams: Sequence[str], *, joints: int, axes: int) -> int:
    """Channels `F` of these streams together."""
    channels = {"joint": axes + 1, "bone": axes, "motion": axes * len(_STEPS), "distance": joints}
    return sum(channels[name] for name in streams)


def stack_streams(
    coordinates: Tensor, seen: Tensor, *, streams: Sequence[StreamName], parents: Sequence[int]
) -> Tensor:
    """Streams side by side.

    Args:
        coordinates: `(B, T, J, D)`, floating point; what stands at unseen joints does not matter.
        seen: `(B, T, J)`, 1 for a joint that was seen and 0 for one that was not.
        streams: Which ones, in order.
        parents: The joint before each joint along the body; a root is its own.

    Returns:
        `(B, T, J, F)`. A difference or distance to an unseen joint is 0.
    """
    both = seen.unsqueeze(-1)  # (B, T, J, 1)
    x = coordinates.masked_fill(both == 0, 0.0)
    made = []
    for name in streams:
        if name == "joint":
            made += [x, both]
        elif name == "bone":
            before = torch.as_tensor(parents, device=x.device)
            made.append((x - x[:, :, before]) * both * both[:, :, before])
        elif name == "motion":
            made += [_motion(x, both, step) for step in _STEPS]
        else:
            gaps = x.unsqueeze(3) - x.unsqueeze(2)  # (B, T, J, J, D)
            made.append((gaps.square().sum(-1) + 1e-12).sqrt() * both * seen.unsqueeze(2))
    return torch.cat(made, -1)


def _motion(x: Tensor, both: Tensor, step: int) -> Tensor:
    if x.shape[1] <= step:
        return torch.zeros_like(x)
    moved = (x[:, step:] - x[:, :-step]) * both[:, step:] * both[:, :-step]
    return torch.cat([moved, torch.zeros_like(x[:, :step])], 1)  # (B, T, J, D); the last frames stand still
