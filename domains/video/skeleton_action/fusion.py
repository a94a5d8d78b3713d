"""Late fusion: a network for each stream, and the mean of their probabilities.

It is what graph convolutions usually do with joints, bones and motions (Shi et al., "Two-Stream Adaptive Graph
Convolutional Networks for Skeleton-Based Action Recognition", CVPR 2019). The networks share no weight and no loss.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.video.skeleton_action.network import SkeletonOutput, SkeletonTransformer

__all__ = ["FusedStreams"]

_SMALLEST = 1e-12


class FusedStreams(nn.Module):
    """Networks of one stream each.

    Args:
        networks: One for each stream; they know the same joints and classes.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, networks: Sequence[SkeletonTransformer]) -> None:
        super().__init__()
        if not networks:
            raise ValueError("late fusion takes one network or more")
        self.networks = nn.ModuleList(networks)

    def forward(self, coordinates: Tensor, seen: Tensor) -> SkeletonOutput:
        """Looks at clips; shapes as `SkeletonTransformer` takes them.

        Returns:
            The logarithm of the mean probability as logits, so that their softmax is that mean; the mean importance;
            and the logits of each network, `(streams, B, classes)`.
        """
        outputs = [network(coordinates, seen) for network in self.networks]
        logits = torch.stack([one.logits for one in outputs])  # (streams, B, classes)
        mean = logits.float().softmax(-1).mean(0)
        importance = torch.stack([one.importance for one in outputs]).mean(0)
        return SkeletonOutput(mean.clamp(min=_SMALLEST).log(), importance, logits)
