"""Losses on distances between the embeddings of a batch.

An anchor without a partner of its identity in the batch, or without anybody of another, has nothing to compare and is
left out of the mean; a batch of such anchors gives 0. All of it is computed in float32, under autocast too: with eight
bits of a mantissa the farthest and the nearest are others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CentreLoss", "attribute_triplet_loss", "batch_hard_triplet_loss", "circle_loss"]


def batch_hard_triplet_loss(x: Tensor, labels: Tensor, *, margin: float | None = None) -> Tensor:
    """The farthest of the own identity should be nearer than the nearest of any other (Hermans et al., 2017).

    `softplus(d_p - d_n)` (the soft margin), or `relu(d_p - d_n + margin)`.

    Args:
        x: Embeddings `(B, C)`; distances are Euclidean, in float32.
        labels: Identity of each `(B,)`.
        margin: None for the soft margin.
    """
    distance = _distances(x)
    same, other = _pairs(labels)
    positive = distance.masked_fill(~same, -torch.inf).amax(1)
    negative = distance.masked_fill(~other, torch.inf).amin(1)
    anchors = same.any(1) & other.any(1)
    if not bool(anchors.any()):
        return x.float().sum() * 0
    gap = (positive - negative)[anchors]
    return (functional.softplus(gap) if margin is None else functional.relu(gap + margin)).mean()


def circle_loss(x: Tensor, labels: Tensor, *, margin: float = 0.25, scale: float = 64.0) -> Tensor:
    """Similarities weighed by how far they are from their aim (Sun et al., Circle loss, CVPR 2020, eq. 6 to 8).

    `softplus(logsumexp(s a_n (s_n - m)) + logsumexp(-s a_p (s_p - (1 - m))))` for each anchor, with
    `a_p = max(0, 1 + m - s_p)` and `a_n = max(0, s_n + m)`, which are not differentiated.

    Args:
        x: Embeddings `(B, C)`; similarities are cosines, in float32.
        labels: Identity of each `(B,)`.
        margin: Relaxation m.
        scale: Factor s (gamma in the paper).
    """
    similarity = _cosines(x)
    same, other = _pairs(labels)
    held = similarity.detach()
    positive = -scale * (1 + margin - held).clamp_min(0) * (similarity - (1 - margin))
    negative = scale * (held + margin).clamp_min(0) * (similarity - margin)
    anchors = same.any(1) & other.any(1)
    if not bool(anchors.any()):
        return x.float().sum() * 0
    positive = positive.masked_fill(~same, -torch.inf)[anchors].logsumexp(1)
    negative = negative.masked_fill(~other, -torch.inf)[anchors].logsumexp(1)
    return functional.softplus(positive + negative).mean()


def attribute_triplet_loss(x: Tensor, labels: Tensor, *, margin: float = 0.2) -> Tensor:
    """Mean of `relu(m + s(f_a, f_n) - s(f_a, f_p))` over all triplets of a batch, with cosines (Ma et al., ASEN, 2020).

    Args:
        x: Embeddings `(B, C)` in the space of one attribute.
        labels: Value of that attribute `(B,)`; below 0 where it is not known, and that picture is in no triplet.
        margin: Margin m.
    """
    known = labels >= 0
    similarity = _cosines(x)
    same, other = _pairs(labels)
    same, other = same & known & known[:, None], other & known & known[:, None]
    # gap[a, p, n] of every triplet
    gap = functional.relu(margin + similarity[:, None, :] - similarity[:, :, None])  # (B, B, B)
    triplets = same[:, :, None] & other[:, None, :]
    count = triplets.sum()
    return (gap * triplets).sum() / count.clamp_min(1)


class CentreLoss(nn.Module):
    """Half the mean squared distance of embeddings to the learned centre of their identity (Wen et al., ECCV 2016).

    Args:
        dim: Channels of an embedding.
        identities: Number of identities.
    """

    def __init__(self, dim: int, identities: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(identities, dim))

    def forward(self, x: Tensor, labels: Tensor) -> Tensor:
        """Embeddings `(B, C)` and labels `(B,)` → a scalar."""
        return 0.5 * (x.float() - self.centres[labels].float()).square().sum(1).mean()


def _distances(x: Tensor) -> Tensor:
    """Euclidean distances `(B, B)`; their gradient is finite where two embeddings are the same."""
    x = x.float()
    # Differences do not change when all move alike; around 0 the squares keep more of their digits.
    x = x - x.detach().mean(0)
    square = x.square().sum(1)
    with torch.autocast(x.device.type, enabled=False):
        squared = square[:, None] + square[None] - 2 * x @ x.T
    return squared.clamp_min(1e-12).sqrt()


def _cosines(x: Tensor) -> Tensor:
    """Cosines `(B, B)`."""
    unit = functional.normalize(x.float())
    with torch.autocast(x.device.type, enabled=False):
        return unit @ unit.T


def _pairs(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which pairs are of one identity (but not the picture itself), and which of two: bool `(B, B)` each."""
    same = labels[:, None] == labels[None]
    itself = torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return same & ~itself, ~same
