"""Soft Dice plus cross-entropy, with deep supervision."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["cross_entropy", "dice_loss", "supervised_loss"]


def dice_loss(logits: Tensor, labels: Tensor, *, batch: bool = True, smooth: float = 1e-5) -> Tensor:
    """One minus the soft Dice, averaged over the classes but background (Milletari et al., 2016).

    A class that is absent from the labels, and that the network gives no weight, has a Dice of 1 through `smooth`;
    with `smooth` 0 it is left out of the mean.

    Args:
        logits: `(B, K, *S)`, any float type; computed in float32.
        labels: `(B, *S)`, integers in `[0, K)`.
        batch: Sum over the batch before dividing.
        smooth: Added to numerator and denominator.

    Returns:
        A scalar in float32.
    """
    probabilities = logits.float().softmax(1)
    batch_size, classes = probabilities.shape[:2]
    truth = functional.one_hot(labels.long(), classes).movedim(-1, 1)[:, 1:].reshape(batch_size, classes - 1, -1)
    guess = probabilities[:, 1:].reshape(batch_size, classes - 1, -1)  # (B, K - 1, N)
    truth = truth.to(guess.dtype)
    axes = (0, 2) if batch else (2,)
    overlap = (guess * truth).sum(axes)
    total = guess.sum(axes) + truth.sum(axes)
    dice = (2 * overlap + smooth) / (total + smooth).clamp_min(torch.finfo(torch.float32).tiny)
    if smooth == 0:
        present = truth.sum(axes) > 0
        return 1 - dice[present].mean() if bool(present.any()) else (guess * 0).sum()
    return 1 - dice.mean()


def cross_entropy(logits: Tensor, labels: Tensor, *, weight: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over voxels, in float32; `weight` is one number for each class."""
    return functional.cross_entropy(logits.float(), labels.long(), weight=weight)


def supervised_loss(
    logits: Tensor | Sequence[Tensor],
    labels: Tensor,
    *,
    dice: float = 1.0,
    ce: float = 1.0,
    batch: bool = True,
    smooth: float = 1e-5,
    weight: Tensor | None = None,
) -> dict[str, Tensor]:
    """Dice plus cross-entropy over all resolutions, each weighted half of the finer one before it.

    Args:
        logits: Logits `(B, K, *S)`, or several of them with the full resolution first.
        labels: `(B, *S)` at the full resolution; coarser ones take every so many voxels of it.
        dice: Weight of the Dice part.
        ce: Weight of the cross-entropy part.
        batch: See `dice_loss`.
        smooth: See `dice_loss`.
        weight: See `cross_entropy`.

    Returns:
        `loss`, and of the full resolution `dice_loss` and `cross_entropy`, detached.
    """
    outputs = [logits] if isinstance(logits, Tensor) else list(logits)
    shares = [0.5**level for level in range(len(outputs))]
    total = torch.zeros((), device=labels.device)
    parts: dict[str, Tensor] = {}
    for level, (output, share) in enumerate(zip(outputs, shares, strict=True)):
        target = _reduced(labels, output.shape[2:]) if level else labels
        soft = dice_loss(output, target, batch=batch, smooth=smooth)
        entropy = cross_entropy(output, target, weight=weight)
        total = total + share / sum(shares) * (dice * soft + ce * entropy)
        if level == 0:
            parts = {"dice_loss": soft.detach(), "cross_entropy": entropy.detach()}
    return {"loss": total, **parts}


def _reduced(labels: Tensor, size: Sequence[int]) -> Tensor:
    """Labels `(B, *S)` at a coarser size, by nearest neighbour."""
    return functional.interpolate(labels[:, None].float(), size=tuple(size), mode="nearest-exact")[:, 0].long()
