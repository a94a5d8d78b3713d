"""Pose networks: pictures of one person in, coordinates of joints out, by regression.

frames (B, T, 3, H, W) → encoder → maps (B T, C, h, w) → joint tokens → space-time aggregation → coordinates
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from domains.video.pose.dsta import SpaceTimeAggregation
from domains.video.pose.flow import ResidualFlow
from domains.video.pose.tokens import LookedTokens, PooledTokens
from pipelines.encoders.efficientnet import EfficientNetLite0

__all__ = ["PlainPose", "PoseOutput", "SpaceTimePose", "for_serving"]


class PoseOutput(NamedTuple):
    """What a network says of a batch.

    Attributes:
        coordinates: `(B, J, 2)`, x and y in shares of the width and height of the input; may lie outside of [0, 1].
        sigma: `(B, J, 2)` in (0, 1), how far off they may be, in the same unit; None where the network cannot tell.
        tokens: `(B, T, K, D)` joint tokens; None where there are none.
        looks: `(B, J, h, w)` logits of where each joint was looked for in the key frame, in training; None where
            nothing was looked at.
    """

    coordinates: Tensor
    sigma: Tensor | None = None
    tokens: Tensor | None = None
    looks: Tensor | None = None

    @property
    def score(self) -> Tensor | None:
        """`(B, J)` in (0, 1): 1 less the mean of sigma."""
        return None if self.sigma is None else 1 - self.sigma.mean(-1)


class SpaceTimePose(nn.Module):
    """DSTA: an encoder, joint tokens, space-time aggregation, and two heads that all joints share.

    Args:
        encoder: `(N, 3, H, W)` → `(N, C, h, w)`.
        channels: `C`.
        aggregation: Takes the tokens; its number of tokens and channels are theirs.
        dim: Channels of a token.
        looking: Whether tokens look for themselves over the map; else it is averaged, as published.
        reach: Cells around the one that a token looked at most whose mean is its place when it serves; None for all.
        prior_mean: Of the learned density of residuals; 0.5 in the release, 0 in the paper.
    """

    def __init__(
        self,
        encoder: nn.Module,
        channels: int,
        aggregation: SpaceTimeAggregation,
        *,
        dim: int,
        looking: bool = False,
        reach: int | None = None,
        prior_mean: float = 0.5,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.tokens: LookedTokens | PooledTokens
        if looking:
            self.tokens = LookedTokens(channels, aggregation.tokens, dim, reach=reach)
        else:
            self.tokens = PooledTokens(channels, aggregation.tokens, dim)
        self.aggregation = aggregation
        self.coordinates, self.sigma = (nn.Sequential(nn.LayerNorm(dim), nn.Linear(dim, 2)) for _ in range(2))
        self.flow = ResidualFlow(prior_mean=prior_mean)

    def forward(self, frames: Tensor) -> PoseOutput:
        """Looks at clips `(B, T, 3, H, W)`; the middle frame is the one whose joints are told.

        Raises:
            ValueError: The network takes another number of frames.
        """
        known = self.aggregation.frames
        if frames.ndim != 5 or frames.shape[1] != known:
            raise ValueError(f"frames {tuple(frames.shape)}; allowed are (B, {known}, 3, H, W)")
        seen = self.tokens(self.encoder(_as_pictures(frames.flatten(0, 1))))  # (B T, K, …)
        tokens = seen.tokens.unflatten(0, (-1, known))  # (B, T, K, D)
        joints = self.aggregation(tokens)  # (B, J, D)
        coordinates = self._key(seen.places).float() + self.coordinates(joints).float()
        looks = None if seen.looks is None else self._key(seen.looks).float()
        return PoseOutput(coordinates, self.sigma(joints).float().sigmoid(), tokens, looks)

    def _key(self, x: Tensor) -> Tensor:
        """Of tokens of all frames `(B T, K, …)` those of joints in the key frame `(B, J, …)`."""
        known = self.aggregation.frames
        return x.reshape(-1, known, *x.shape[1:])[:, known // 2, self.aggregation.order]


class PlainPose(nn.Module):
    """What there is to beat: the pooled map of the key frame and one linear layer.

    Args:
        encoder: `(N, 3, H, W)` → `(N, C, h, w)`.
        channels: `C`.
        joints: Joints `J`.
        frames: Frames of a clip, of which the middle one is looked at.
    """

    def __init__(self, encoder: nn.Module, channels: int, joints: int, *, frames: int = 1) -> None:
        super().__init__()
        self.encoder, self.frames = encoder, frames
        self.coordinates = nn.Linear(channels, 2 * joints)
        nn.init.zeros_(self.coordinates.weight)
        nn.init.constant_(self.coordinates.bias, 0.5)

    def forward(self, frames: Tensor) -> PoseOutput:
        """Clips `(B, T, 3, H, W)`."""
        if frames.ndim != 5 or frames.shape[1] != self.frames:
            raise ValueError(f"frames {tuple(frames.shape)}; allowed are (B, {self.frames}, 3, H, W)")
        maps = self.encoder(_as_pictures(frames[:, self.frames // 2]))
        coordinates = self.coordinates(maps.float().mean((2, 3)))
        return PoseOutput(coordinates.float().unflatten(-1, (-1, 2)))


def _as_pictures(frames: Tensor) -> Tensor:
    """`(N, 3, H, W)` with channels in the innermost axis in memory, as convolutions are fastest on most hardware."""
    return frames.contiguous(memory_format=torch.channels_last)


def for_serving(network: SpaceTimePose | PlainPose) -> SpaceTimePose | PlainPose:
    """A network that is not trained any more, in evaluation mode; its encoder without norms, in channels-last order."""
    network.eval()
    if isinstance(network.encoder, EfficientNetLite0):
        network.encoder = network.encoder.fused()
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
