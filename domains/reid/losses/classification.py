"""Losses that classify identities: cross-entropy with label smoothing, and an additive angular margin (ArcFace)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["MarginClassifier", "identity_loss"]


def identity_loss(logits: Tensor, labels: Tensor, *, smoothing: float = 0.0) -> Tensor:
    """Mean cross-entropy against labels of which `smoothing` is spread evenly over all identities.

    Args:
        logits: `(B, I)`; computed in float32.
        labels: `(B,)`, integers in `[0, I)`.
        smoothing: Share of each label that is spread, from 0 up to 1.
    """
    return functional.cross_entropy(logits.float(), labels, label_smoothing=smoothing)


class MarginClassifier(nn.Module):
    """Logits of cosines; in training the own identity must win by an angle (Deng et al., ArcFace, CVPR 2019, eq. 3).

    `s cos(theta + m)` for the own identity and `s cos(theta)` for the others. Where `theta + m` would pass 180 degrees
    the cosine would rise again, so there the logit is `s (cos(theta) - m sin(m))`, as in the authors' code.

    Args:
        dim: Channels of an embedding.
        identities: Number of identities.
        margin: Angle m in radians.
        scale: Factor s.
    """

    def __init__(self, dim: int, identities: int, *, margin: float = 0.5, scale: float = 30.0) -> None:
        super().__init__()
        if not 0 <= margin < math.pi / 2:
            raise ValueError(f"margin {margin} is not an angle from 0 to below {math.pi / 2:.3f} radians")
        self.weight = nn.Parameter(torch.empty(identities, dim))
        nn.init.xavier_uniform_(self.weight)
        self.margin, self.scale = margin, scale

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Tensor:
        """Embeddings `(B, C)` and labels `(B,)` → logits `(B, I)` in float32; without labels no margin."""
        # A margin of angles needs more digits than autocast leaves.
        with torch.autocast(x.device.type, enabled=False):
            cosine = functional.linear(functional.normalize(x.float()), functional.normalize(self.weight.float()))
        if labels is None:
            return cosine * self.scale
        own = cosine.gather(1, labels[:, None])  # (B, 1)
        sine = (1 - own.square()).clamp_min(1e-12).sqrt()
        turned = own * math.cos(self.margin) - sine * math.sin(self.margin)
        past = own <= math.cos(math.pi - self.margin)
        turned = torch.where(past, own - self.margin * math.sin(self.margin), turned)
        return cosine.scatter(1, labels[:, None], turned) * self.scale
