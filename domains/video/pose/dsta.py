"""Decoupled space-time aggregation of joint tokens (He and Yang, CVPR 2024): no heat map anywhere.

    tokens (B, T, K, D) → joints of a limb look at one another in the key frame  ┐
                        → each joint looks at itself in all frames               ┴→ mixed → one token a joint (B, J, D)

>>> import torch
>>> network = SpaceTimeAggregation(5, 16, frames=3, groups=((0, 1), (2, 3, 4)), order=(4, 0, 0))
>>> network(torch.zeros(2, 3, 5, 16)).shape     # three joints, two of which are read from one token
torch.Size([2, 3, 16])
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from domains.video.pose.groups import check_groups
from shared_attention import build
from shared_attention.blocks import Block, FeedForward

__all__ = ["SpaceTimeAggregation"]

_EPS = 1e-6


class SpaceTimeAggregation(nn.Module):
    """Spatial attention inside groups of joints, temporal attention of each joint, and their weighted sum.

    Args:
        tokens: Joint tokens `K`.
        dim: Channels `D` of a token.
        frames: Frames `T` of a clip; the middle one is the key frame.
        groups: Tokens that look at one another in the key frame; a token in no group passes by.
        order: The token of each joint that comes out.
        depth: Blocks of each of the two branches.
        heads: Heads of a block.
        expansion: Width of a feed-forward part over `dim`.
        drop_path: Share of clips for which the last block is left out in training; it rises linearly from 0.

    Raises:
        ValueError: Groups or order do not fit the tokens, or frames, heads or sizes do not fit.
    """

    real: Tensor
    places: Tensor
    order: Tensor

    def __init__(
        self,
        tokens: int,
        dim: int,
        *,
        frames: int,
        groups: Sequence[Sequence[int]],
        order: Sequence[int],
        depth: int = 4,
        heads: int = 8,
        expansion: float = 2.0,
        drop_path: float = 0.1,
    ) -> None:
        super().__init__()
        check_groups(groups, order, tokens)
        if frames < 1 or frames % 2 == 0:
            raise ValueError(f"a clip of {frames} frames has no middle one; use 1, 3, 5, …")
        self.frames, self.tokens = frames, tokens
        longest = max((len(group) for group in groups), default=0)
        padded = [[*group, *[group[0]] * (longest - len(group))] for group in groups]
        # What is computed from the arguments is no weight and is not kept with them.
        self.register_buffer("places", torch.tensor(padded, dtype=torch.long), persistent=False)  # (G, L)
        real = torch.tensor([[at < len(group) for at in range(longest)] for group in groups], dtype=torch.bool)
        self.register_buffer("real", real, persistent=False)  # (G, L)
        self.register_buffer("order", torch.tensor(order, dtype=torch.long), persistent=False)  # (J,)
        self.space_place = nn.Parameter(torch.zeros(longest, dim))
        self.time_place = nn.Parameter(torch.zeros(frames, dim))
        self.space, self.time = (_blocks(dim, depth, heads, expansion) for _ in range(2))
        self.space_norm, self.time_norm = nn.LayerNorm(dim, eps=_EPS), nn.LayerNorm(dim, eps=_EPS)
        self.rates = [drop_path * number / max(1, depth - 1) for number in range(depth)]
        self.mix = nn.Linear(2, 1)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, T, K, D)` → a token for each joint in the key frame, `(B, J, D)`.

        Raises:
            ValueError: There are other frames or tokens than the network knows.
        """
        if tuple(tokens.shape[1:3]) != (self.frames, self.tokens):
            raise ValueError(
                f"{tokens.shape[1]} frames of {tokens.shape[2]} joint tokens; the network takes {self.frames} frames "
                f"of {self.tokens}"
            )
        both = torch.stack([self.over_time(tokens), self.over_space(tokens[:, self.frames // 2])], -1)  # (B, K, D, 2)
        mixed: Tensor = self.mix(both).squeeze(-1)  # (B, K, D)
        return mixed[:, self.order]  # (B, J, D)

    def over_space(self, tokens: Tensor) -> Tensor:
        """Joints of the key frame, each group for itself: `(B, K, D)` → `(B, K, D)`."""
        if not len(self.places):
            return tokens
        x = tokens[:, self.places] + self.space_place  # (B, G, L, D)
        mask = self.real.expand(len(x), -1, -1).flatten(0, 1)  # (B G, L)
        x = self._through(self.space, x.flatten(0, 1), None if bool(self.real.all()) else mask)
        x = self.space_norm(x).unflatten(0, (len(tokens), -1))  # (B, G, L, D)
        out = tokens.clone()
        out[:, self.places[self.real]] = x[:, self.real].to(out.dtype)
        return out

    def over_time(self, tokens: Tensor) -> Tensor:
        """Each joint for itself in all frames, then the key frame: `(B, T, K, D)` → `(B, K, D)`."""
        x = tokens.transpose(1, 2).flatten(0, 1) + self.time_place  # (B K, T, D)
        x = self.time_norm(self._through(self.time, x, None))[:, self.frames // 2]
        key: Tensor = x.unflatten(0, (len(tokens), -1))  # (B, K, D)
        return key

    def _through(self, blocks: nn.ModuleList, x: Tensor, mask: Tensor | None) -> Tensor:
        for block, rate in zip(blocks, self.rates, strict=True):
            x = _drop_path(x, block(x, mask=mask), rate if self.training else 0.0)
        return x


def _blocks(dim: int, depth: int, heads: int, expansion: float) -> nn.ModuleList:
    return nn.ModuleList(
        Block(build("full", dim, rank=1, heads=heads), FeedForward(dim, hidden=round(dim * expansion)), eps=_EPS)
        for _ in range(depth)
    )


def _drop_path(before: Tensor, after: Tensor, rate: float) -> Tensor:
    if not rate:
        return after
    kept = torch.rand(len(before), *(1,) * (before.ndim - 1), device=before.device) >= rate
    return before + (after - before) * kept / (1 - rate)
