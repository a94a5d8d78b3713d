"""The loss of a batch: the same parts for each branch, weighed by what the network has learned of their uncertainty."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from domains.reid.losses import batch_hard_triplet_loss, circle_loss, identity_loss
from domains.reid.models.embedder import Branch, Embedder

if TYPE_CHECKING:
    from domains.reid.settings import LossSettings

__all__ = ["branch_losses"]


def branch_losses(
    branches: Mapping[str, Branch], labels: Tensor, settings: LossSettings, network: Embedder
) -> dict[str, Tensor]:
    """`loss`, and its parts.

    Args:
        branches: What each branch gives.
        labels: Identity of each picture `(B,)`.
        settings: Weights of the parts.
        network: The network; it holds centres and the weights of branches.

    Returns:
        `loss`; `identity`, `triplet`, `circle`, `centre` of the global branch; and the loss of each other branch.
    """
    totals: dict[str, Tensor] = {}
    parts: dict[str, Tensor] = {}
    for name, branch in branches.items():
        feature = branch.before if settings.compare == "before" else branch.after
        found: dict[str, tuple[float, Tensor]] = {}
        if settings.identity:
            found["identity"] = settings.identity, identity_loss(branch.logits, labels, smoothing=settings.smoothing)
        if settings.triplet:
            found["triplet"] = settings.triplet, batch_hard_triplet_loss(feature, labels, margin=settings.margin)
        if settings.circle:
            found["circle"] = settings.circle, circle_loss(feature, labels)
        if settings.centre and network.centre_loss is not None:
            found["centre"] = settings.centre, network.centre_loss(feature, labels)
        totals[name] = torch.stack([weight * value for weight, value in found.values()]).sum()
        if name == "global":
            parts |= {part: value.detach() for part, (_, value) in found.items()}
        else:
            parts[f"{name}_branch"] = totals[name].detach()
    stacked = torch.stack(list(totals.values()))
    loss = stacked[0] if network.weights is None else network.weights(stacked)
    return {"loss": loss, **parts}
