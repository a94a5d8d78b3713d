"""A frame encoder, tokens on time × rows × columns, mixers of the attention core, and a pool.

    network = SpaceTimeNetwork(encoder, 2, mixer=lambda dim: build("full", dim, rank=3), dim=32)
    network(torch.zeros(2, 8, 64, 64, 3, dtype=torch.uint8)).logits.shape      # (2, 2)

Features of a frozen encoder may be given instead of frames: `network(features=...)`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.video.clip_action.encoders import FrameEncoder
from shared_attention import TokenMixer
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.pools.gated_pool import GatedPool

__all__ = ["ClipModel", "ClipOutput", "SpaceTimeNetwork", "TokenPool", "place_code"]


class ClipOutput(NamedTuple):
    """What a network says of clips."""

    logits: Tensor
    """`(B, classes)`."""
    attention: Tensor
    """`(B, T, h, w)`, how much each place of each frame counts; it sums to one over a clip."""


class ClipModel(nn.Module):
    """What networks of clips share: the encoder and its streams.

    Args:
        encoder: Sees single frames.
        streams: `rgb`, `motion`, or both.
    """

    def __init__(self, encoder: FrameEncoder, streams: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.streams = encoder, tuple(streams)

    def features(self, frames: Tensor, partners: Tensor | None = None) -> Tensor:
        """Features of each stream `(B, S, T, h, w, C)`.

        Args:
            frames: uint8 `(B, T, H, W, 3)`.
            partners: The same a moment later, for the motion stream.

        Raises:
            ValueError: There is a motion stream and no partners.
        """
        if "motion" in self.streams and partners is None:
            raise ValueError("the motion stream needs partners, the frames a moment later")
        seen = [self.encoder(frames, partners if stream == "motion" else None) for stream in self.streams]
        return torch.stack(seen, 1)


class TokenPool(nn.Module):
    """One summary of tokens `(B, T, h, w, C)`, and how much each token counts.

    Args:
        dim: Channels `C`.
        name: `mean`, `max`, `attention`, or `frames`: the mean of each frame, then the greatest and the mean over time.
    """

    def __init__(self, dim: int, name: str) -> None:
        super().__init__()
        self.name = name
        self.channels = 2 * dim if name == "frames" else dim
        self.gated = GatedPool(dim, rank=3, hidden=dim) if name == "attention" else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, channels)`, and weights `(B, T, h, w)` that sum to one over a clip."""
        grid = x.shape[1:4]
        if self.gated is not None:
            weights = self.gated.weights(x)  # (B, 1, N)
            return (weights.to(x.dtype) @ x.flatten(1, 3)).squeeze(1), weights.reshape(x.shape[:4])
        if self.name == "mean":
            return x.mean((1, 2, 3)), x.new_full(x.shape[:4], 1 / math.prod(grid))
        if self.name == "max":
            found, places = x.flatten(1, 3).max(1)  # (B, C)
            return found, _shares(places, math.prod(grid)).reshape(x.shape[:4]).to(x.dtype)
        frames = x.mean((2, 3))  # (B, T, C)
        found, places = frames.max(1)
        shares = (_shares(places, grid[0]) + 1 / grid[0]) / 2  # (B, T)
        spread = shares[:, :, None, None] / (grid[1] * grid[2])
        return torch.cat([found, frames.mean(1)], -1), spread.expand(-1, -1, *grid[1:]).to(x.dtype)


class SpaceTimeStream(nn.Module):
    """Tokens of one stream (or of streams that were added), mixed and pooled to logits.

    Args:
        sources: Channels of each stream that is added.
        classes: Classes.
        mixer: Makes the mixer of a block for a number of channels.
        dim: Channels of a token.
        depth: Blocks.
        expansion: Width of a feed-forward part over `dim`.
        dropout: Probability that a channel is dropped.
        drop_path: Share of clips that leave the last block out.
        pool: See `TokenPool`.
    """

    def __init__(
        self,
        sources: Sequence[int],
        classes: int,
        *,
        mixer: Callable[[int], TokenMixer],
        dim: int,
        depth: int,
        expansion: float,
        dropout: float,
        drop_path: float,
        pool: str,
    ) -> None:
        super().__init__()
        self.embed = nn.ModuleList(nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim)) for width in sources)
        self.drop = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(mixer(dim), FeedForward(dim, hidden=round(dim * expansion))) for _ in range(depth)
        )
        self.rates = [drop_path * number / max(1, depth - 1) for number in range(depth)]
        self.norm = nn.LayerNorm(dim)
        self.pool = TokenPool(dim, pool)
        self.head = nn.Linear(self.pool.channels, classes)

    def forward(self, features: Sequence[Tensor]) -> ClipOutput:
        """Features `(B, T, h, w, C)` of each source."""
        tokens = [embed(one) for embed, one in zip(self.embed, features, strict=True)]
        x = torch.stack(tokens).sum(0)  # (B, T, h, w, dim)
        if self.blocks:
            x = x + place_code(x.shape[1:4], x.shape[-1]).to(x)
        x = self.drop(x)
        for block, rate in zip(self.blocks, self.rates, strict=True):
            x = _drop_path(x, block(x), rate if self.training else 0.0)
        pooled, weights = self.pool(self.norm(x))
        return ClipOutput(self.head(self.drop(pooled)), weights)


class SpaceTimeNetwork(ClipModel):
    """Streams of clips, fused early (tokens are added) or late (logits are averaged).

    Args:
        encoder: Sees single frames.
        classes: Classes.
        mixer: Makes the mixer of a block for a number of channels.
        streams: `rgb`, `motion`, or both.
        fusion: `early` or `late`.
        dim: Channels of a token.
        depth: Blocks.
        expansion: Width of a feed-forward part over `dim`.
        dropout: Probability that a channel is dropped.
        drop_path: Share of clips that leave the last block out.
        pool: See `TokenPool`.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        classes: int,
        *,
        mixer: Callable[[int], TokenMixer],
        streams: Sequence[str] = ("rgb",),
        fusion: str = "late",
        dim: int = 64,
        depth: int = 1,
        expansion: float = 2.0,
        dropout: float = 0.3,
        drop_path: float = 0.0,
        pool: str = "attention",
    ) -> None:
        super().__init__(encoder, streams)
        width = encoder.channels
        sources = [[width]] * len(streams) if fusion == "late" else [[width] * len(streams)]
        self.parts = nn.ModuleList(
            SpaceTimeStream(
                of_part,
                classes,
                mixer=mixer,
                dim=dim,
                depth=depth,
                expansion=expansion,
                dropout=dropout,
                drop_path=drop_path,
                pool=pool,
            )
            for of_part in sources
        )

    def forward(
        self, frames: Tensor | None = None, partners: Tensor | None = None, features: Tensor | None = None
    ) -> ClipOutput:
        """Looks at clips.

        Args:
            frames: uint8 `(B, T, H, W, 3)`; or `features`.
            partners: The same a moment later, for the motion stream.
            features: `(B, S, T, h, w, C)`, as the encoder makes them.

        Raises:
            ValueError: Neither is given.
        """
        if features is None:
            if frames is None:
                raise ValueError("neither frames nor features are given")
            features = self.features(frames, partners)
        streams = features.unbind(1)
        given = [streams] if len(self.parts) == 1 else [(one,) for one in streams]
        told = [part(seen) for part, seen in zip(self.parts, given, strict=True)]
        return ClipOutput(*(torch.stack(values).mean(0) for values in zip(*told, strict=True)))


def place_code(grid: Sequence[int], dim: int) -> Tensor:
    """Sines and cosines `(T, h, w, C)`: a third of the channels for each axis (Vaswani et al., 2017), scaled to 0.1."""
    widths = [dim // 3 // 2 * 2] * 2
    widths = [dim - sum(widths), *widths]
    parts = []
    for axis, (size, width) in enumerate(zip(grid, widths, strict=True)):
        if width:
            rates = torch.exp(torch.arange(0, width, 2) * (-math.log(100.0) / width))
            angles = torch.arange(size)[:, None] * rates  # (size, width / 2)
            code = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)[:, :width]
            parts.append(code.view([-1 if one == axis else 1 for one in range(3)] + [width]).expand(*grid, -1))
    return torch.cat(parts, -1) * 0.1


def _shares(places: Tensor, count: int) -> Tensor:
    """How often each of `count` places is named: `(B, C)` numbers → `(B, count)`, summing to one."""
    return functional.one_hot(places, count).float().mean(1)


def _drop_path(before: Tensor, after: Tensor, rate: float) -> Tensor:
    if not rate:
        return after
    kept = torch.rand(len(before), *(1,) * (before.ndim - 1), device=before.device) >= rate
    return before + (after - before) * kept / (1 - rate)
