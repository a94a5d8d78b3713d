"""One block of the cross-modal transformer: three attentions that meet in two modal tokens.

Reconstructed from Kim et al., "Cross-Modal Learning with 3D Deformable Attention for Action Recognition" (ICCV 2023);
no code is published. Certain: 3D deformable attention whose keys stand beside modal tokens, local joint stride
attention that joins visual and pose tokens in space, temporal stride attention that keeps fewer tokens in time. Ours:
everything between them, told below and in the reference.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention import build
from shared_attention.arguments import heads_of
from shared_attention.attend import token_softmax
from shared_attention.blocks import FeedForward
from shared_attention.mechanisms.sparse.deformable_3d import Deformable3D

__all__ = ["CrossModalBlock", "CrossModalTokens", "ModalLook", "sample_places"]


class CrossModalTokens(NamedTuple):
    """What goes through the blocks."""

    visual: Tensor
    """`(B, T, h, w, C)`, tokens of frames."""
    other: Tensor
    """`(B, T, J, C)`, tokens of joints, or of places of a motion picture."""
    modal: Tensor
    """`(B, 2, C)`, which gather both and are classified."""


class ModalLook(nn.Module):
    """The modal tokens look at tokens of the second modality; how much each of these counts is kept.

    Args:
        dim: Channels `C`.
        heads: Number of heads; None for heads of about 32 channels.
    """

    def __init__(self, dim: int, heads: int | None = None) -> None:
        super().__init__()
        self.heads, self.head_dim = heads_of(dim, heads)
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, modal: Tensor, other: Tensor, seen: Tensor | None) -> tuple[Tensor, Tensor]:
        """`(B, M, C)` and `(B, T, J, C)` to `(B, M, C)` and weights `(B, T, J)`, mean of heads and modal tokens."""
        q = self.q(modal).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, M, D)
        k, v = self.kv(other.flatten(1, 2)).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, H, N, D)
        logits = (q @ k.transpose(-2, -1)).float() * self.head_dim**-0.5  # (B, H, M, N)
        weights = token_softmax(logits, mask=None if seen is None else seen.flatten(1)[:, None, None])
        out = (weights.to(v.dtype) @ v).transpose(1, 2).flatten(2)  # (B, M, C)
        return self.proj(out), weights.mean((1, 2)).reshape(other.shape[:3])


class CrossModalBlock(nn.Module):
    """Deformable attention of frames, joint and temporal stride attention of the second modality, feed-forward parts.

    Args:
        dim: Channels `C`.
        stride: Distance of the reference points of deformable attention along time, rows and columns.
        joint_stride: Stride of joints.
        temporal_stride: Stride of frames.
        heads: Number of heads of every attention; None for heads of about 32 channels.
        expansion: Width of the feed-forward parts over `dim`.
    """

    def __init__(
        self,
        dim: int,
        *,
        stride: int = 2,
        joint_stride: int = 3,
        temporal_stride: int = 2,
        heads: int | None = None,
        expansion: float = 2.0,
    ) -> None:
        super().__init__()
        self.search = Deformable3D(dim, rank=3, heads=heads, stride=stride)
        self.fuse = nn.Linear(2 * dim, dim)
        self.joints = build("joint_stride", dim, rank=2, heads=heads, stride=joint_stride)
        self.frames = build("temporal_stride", dim, rank=2, heads=heads, stride=temporal_stride)
        self.look = ModalLook(dim, heads)
        self.norms = nn.ModuleDict({name: nn.LayerNorm(dim) for name in _NORMS})
        self.forwards = nn.ModuleDict(
            {name: FeedForward(dim, hidden=round(dim * expansion)) for name in ("visual", "other", "modal")}
        )

    def forward(self, tokens: CrossModalTokens, places: Tensor, seen: Tensor | None) -> tuple[CrossModalTokens, Tensor]:
        """The tokens after the block, and how much each of the second modality counted `(B, T, J)`.

        Args:
            tokens: The tokens before it.
            places: `(B, T, J, 2)`, column and row of each token of the second modality, from 0 to 1 over the picture.
            seen: bool `(B, T, J)`, False for a joint that was not seen; None where all are.
        """
        visual, other, modal = tokens
        norms = self.norms
        found, gathered = self.search.with_tokens(norms["visual"](visual), norms["modal"](modal))
        assert gathered is not None
        visual, modal = visual + found, modal + gathered
        around = sample_places(norms["sampled"](visual), places)  # (B, T, J, C)
        other = other + self.fuse(torch.cat([norms["other"](other), around], -1))
        other = other + self.joints(norms["joints"](other), mask=seen)
        other = other + self.frames(norms["frames"](other), mask=seen)
        gathered, weights = self.look(norms["look"](modal), norms["looked"](other), seen)
        modal = modal + gathered
        visual = visual + self.forwards["visual"](norms["visual_forward"](visual))
        other = other + self.forwards["other"](norms["other_forward"](other))
        modal = modal + self.forwards["modal"](norms["modal_forward"](modal))
        return CrossModalTokens(visual, other, modal), weights


_FORWARDS = ("visual_forward", "other_forward", "modal_forward")
_NORMS = ("visual", "modal", "sampled", "other", "joints", "frames", "look", "looked", *_FORWARDS)


def sample_places(visual: Tensor, places: Tensor) -> Tensor:
    """Visual tokens at the places of joints, linear in between, frame by frame.

    Args:
        visual: `(B, T, h, w, C)`.
        places: `(B, T, J, 2)`, column and row from 0 to 1; outside, the border goes on.

    Returns:
        `(B, T, J, C)`.
    """
    batch, frames = visual.shape[:2]
    wide = torch.promote_types(visual.dtype, torch.float32)
    maps = visual.flatten(0, 1).permute(0, 3, 1, 2).to(wide)  # (B T, C, h, w)
    grid = (2 * places.to(wide) - 1).reshape(batch * frames, 1, -1, 2)
    found = functional.grid_sample(maps, grid, padding_mode="border", align_corners=False)  # (B T, C, 1, J)
    return found.squeeze(2).transpose(1, 2).reshape(*places.shape[:3], -1).to(visual.dtype)
