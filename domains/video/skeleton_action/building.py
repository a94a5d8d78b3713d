"""From settings and a plan to a network, and the scale of its streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from domains.video.skeleton_action.fusion import FusedStreams
from domains.video.skeleton_action.mixer_settings import make_mixer
from domains.video.skeleton_action.network import SkeletonTransformer
from domains.video.skeleton_action.plan import SkeletonPlan
from domains.video.skeleton_action.settings import ModelSettings
from domains.video.skeleton_action.streams import StreamName
from pipelines.errors import ConfigurationError

__all__ = ["build_network", "standardise"]

_SMALLEST = 1e-3
_AT_ONCE = 64


def build_network(settings: ModelSettings, plan: SkeletonPlan) -> SkeletonTransformer | FusedStreams:
    """A fresh network. Raises `ConfigurationError` where it, or its mixer, refuses its arguments."""
    arguments = settings.model_dump(exclude={"mixer", "fusion", "streams"})

    def of(streams: Sequence[StreamName]) -> SkeletonTransformer:
        return SkeletonTransformer(
            len(plan.joints),
            len(plan.classes),
            axes=plan.axes,
            parents=plan.joints.parents,
            mixer=lambda dim: make_mixer(settings.mixer, dim),
            streams=streams,
            **arguments,
        )

    try:
        if settings.fusion == "late":
            return FusedStreams([of((stream,)) for stream in settings.streams])
        return of(settings.streams)
    except ValueError as error:
        raise ConfigurationError(f"model: it cannot be built: {error}") from error


def standardise(
    network: SkeletonTransformer | FusedStreams, samples: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> None:
    """Sets mean and deviation of each stream channel to those of these clips, over persons that are there.

    Args:
        network: Its buffers are set.
        samples: Coordinates `(P, T, J, D)` and what was seen `(P, T, J)` of each clip.
    """
    if isinstance(network, FusedStreams):
        for one in network.networks:
            standardise(cast("SkeletonTransformer", one), samples)
        return
    count, total, squares = 0, torch.zeros_like(network.mean).double(), torch.zeros_like(network.mean).double()
    for first in range(0, len(samples), _AT_ONCE):
        piece = samples[first : first + _AT_ONCE]
        coordinates = torch.from_numpy(np.concatenate([one for one, _ in piece]))
        seen = torch.from_numpy(np.concatenate([one for _, one in piece]))
        there = seen.flatten(1).any(1)
        values = network.look(coordinates[there], seen[there]).flatten(0, 2).double()  # (rows, F)
        count += len(values)
        total += values.sum(0)
        squares += values.square().sum(0)
    mean = total / count
    network.mean.copy_(mean)
    network.deviation.copy_((squares / count - mean.square()).clamp(min=0).sqrt().clamp(min=_SMALLEST))
