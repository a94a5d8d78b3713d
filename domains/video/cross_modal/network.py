"""The deformable cross-modal transformer on features of frames and a second modality.

network = CrossModalNetwork(encoder, 2, dim=32)
network(frames, partners).logits                                   # RGB and motion
network(features=rgb, pose=pose).logits                            # RGB and joints, pose (B, T, J, 3)
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.video.clip_action.encoders import FrameEncoder
from domains.video.clip_action.network import ClipModel, place_code
from domains.video.cross_modal.block import CrossModalBlock, CrossModalTokens

__all__ = ["CrossModalNetwork", "CrossModalOutput"]

_SMALL = 0.02
_WHO = 0.5
"""Deviation of what tells joints apart at first. Where it is much less than what joints do, the network finds late or
never which of them does it."""
_OF_JOINT = 5
"""Channels of a joint: place, confidence, and the way to its next place."""
_SPREAD, _STEP = 4.0, 8.0
"""Factors of places around the middle of the picture and of ways, so that usual ones are about 1."""


class CrossModalOutput(NamedTuple):
    """What the network says of clips."""

    logits: Tensor
    """`(B, classes)`."""
    attention: Tensor
    """`(B, T, h, w)`, how much the second modality counted at each place of each frame; it sums to one over a clip."""
    joints: Tensor
    """`(B, T, J)`, how much each joint (or each place of the motion picture) counted; it sums to one over a clip."""


class CrossModalNetwork(ClipModel):
    """RGB tokens and tokens of motion or of joints, which meet in two modal tokens that are classified.

    Args:
        encoder: Sees single frames.
        classes: Classes.
        joints: Joints of a person, where the second modality is a pose; 0 where it is motion.
        persons: Persons of a pose.
        dim: Channels of a token.
        depth: Blocks; the temporal stride doubles from one to the next, beginning with 1.
        stride: Distance of the reference points of deformable attention.
        joint_stride: Stride of joints, or of places of the motion picture.
        heads: Number of heads; None for heads of about 32 channels.
        expansion: Width of a feed-forward part over `dim`.
        dropout: Probability that a channel is dropped.
        drop_rgb: Share of training clips whose frames are blanked, so that the second modality must do.
    """

    def __init__(
        self,
        encoder: FrameEncoder,
        classes: int,
        *,
        joints: int = 0,
        persons: int = 1,
        dim: int = 64,
        depth: int = 2,
        stride: int = 2,
        joint_stride: int = 3,
        heads: int | None = None,
        expansion: float = 2.0,
        dropout: float = 0.3,
        drop_rgb: float = 0.0,
    ) -> None:
        super().__init__(encoder, ("rgb",) if joints else ("rgb", "motion"))
        self.joints = joints * persons
        width = encoder.channels
        self.visual = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.other = nn.Linear(_OF_JOINT, dim) if joints else nn.Sequential(nn.LayerNorm(width), nn.Linear(width, dim))
        self.joint_place = nn.Parameter(torch.randn(joints, dim) * _WHO) if joints else None
        self.person_place = nn.Parameter(torch.randn(persons, dim) * _WHO) if joints and persons > 1 else None
        self.modal = nn.Parameter(torch.randn(2, dim) * _SMALL)
        self.drop, self.drop_rgb = nn.Dropout(dropout), drop_rgb
        self.blocks = nn.ModuleList(
            CrossModalBlock(
                dim,
                stride=stride,
                joint_stride=joint_stride,
                temporal_stride=2**number,
                heads=heads,
                expansion=expansion,
            )
            for number in range(depth)
        )
        self.norm = nn.LayerNorm(2 * dim)
        self.head = nn.Linear(2 * dim, classes)

    def forward(
        self,
        frames: Tensor | None = None,
        partners: Tensor | None = None,
        features: Tensor | None = None,
        pose: Tensor | None = None,
    ) -> CrossModalOutput:
        """Looks at clips.

        Args:
            frames: uint8 `(B, T, H, W, 3)`; or `features`.
            partners: The same a moment later, where the second modality is motion.
            features: `(B, S, T, h, w, C)`, as the encoder makes them.
            pose: `(B, T, J, 3)`, joints of one person after another: column and row from 0 to 1 over the picture, and
                confidence from 0 (not seen) to 1.

        Raises:
            ValueError: What the network was built for is not given, or does not fit.
        """
        if features is None:
            if frames is None:
                raise ValueError("neither frames nor features are given")
            features = self.features(frames, partners)
        expected = (*features.shape[:1], features.shape[2], self.joints, 3)
        if (pose is None) is bool(self.joints) or (pose is not None and tuple(pose.shape) != expected):
            given = None if pose is None else tuple(pose.shape)
            raise ValueError(f"pose {given}; this network was built for {expected if self.joints else 'motion alone'}")
        return self._decide(features, pose)

    def _decide(self, features: Tensor, pose: Tensor | None) -> CrossModalOutput:
        batch, _, frames, height, width, _ = features.shape
        code = place_code((frames, height, width), self.head.in_features // 2).to(features)
        rgb = features[:, 0]
        if self.training and self.drop_rgb:
            rgb = rgb * (torch.rand(batch, 1, 1, 1, 1, device=rgb.device) >= self.drop_rgb)
        visual = self.drop(self.visual(rgb) + code)  # (B, T, h, w, dim)
        seen: Tensor | None = None
        if pose is None:
            other = (self.other(features[:, 1]) + code).flatten(2, 3)  # (B, T, h w, dim)
            places = _centres(height, width).to(features).expand(batch, frames, -1, 2)
        else:
            seen, places = pose[..., 2] > 0, pose[..., :2]
            other = (
                self.other(_joint_channels(pose)) + self._joint_places() + code.mean((1, 2))[:, None]
            )  # (B, T, J, dim)
            other = other * seen.unsqueeze(-1)
        tokens = CrossModalTokens(visual, self.drop(other), self.modal.expand(batch, -1, -1).to(visual.dtype))
        weights = []
        for block in self.blocks:
            tokens, of_block = block(tokens, places, seen)
            weights.append(of_block)
        joints = torch.stack(weights).mean(0)  # (B, T, J)
        logits = self.head(self.drop(self.norm(tokens.modal.flatten(1))))
        return CrossModalOutput(logits, _on_grid(joints, places, height, width), joints)

    def _joint_places(self) -> Tensor:
        """What tells joints `(J, dim)` from one another, and persons."""
        assert self.joint_place is not None
        if self.person_place is None:
            return self.joint_place
        return (self.person_place.unsqueeze(1) + self.joint_place).flatten(0, 1)


def _joint_channels(pose: Tensor) -> Tensor:
    """What a token of a joint begins with, `(B, T, J, 5)`: a way is 0 where one of its ends was not seen."""
    places, sure = pose[..., :2], pose[..., 2:]
    both = (sure[:, 1:] > 0) & (sure[:, :-1] > 0)
    ways = functional.pad((places[:, 1:] - places[:, :-1]) * both, (0, 0, 0, 0, 0, 1))
    return torch.cat([(places - 0.5) * _SPREAD, sure, ways * _STEP], -1)


def _centres(height: int, width: int) -> Tensor:
    """Column and row of the middle of each place of a grid `(h w, 2)`, from 0 to 1."""
    rows, columns = torch.meshgrid(
        (torch.arange(height) + 0.5) / height, (torch.arange(width) + 0.5) / width, indexing="ij"
    )
    return torch.stack([columns, rows], -1).flatten(0, 1)


def _on_grid(weights: Tensor, places: Tensor, height: int, width: int) -> Tensor:
    """Weights `(B, T, J)` at the cells that their places lie in, `(B, T, h, w)`."""
    sizes = torch.tensor([width, height], device=places.device, dtype=places.dtype)
    cells = (places * sizes).floor().long().clamp(min=0)
    column, row = cells[..., 0].clamp(max=width - 1), cells[..., 1].clamp(max=height - 1)
    hot = functional.one_hot(row * width + column, height * width).to(weights.dtype)  # (B, T, J, h w)
    return (weights.unsqueeze(2) @ hot).reshape(*weights.shape[:2], height, width)
