"""Cross-entropy of bags, of one class or of several labels."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from domains.medical.bags.networks.contract import Criterion
from domains.medical.bags.settings import LossSettings
from domains.medical.bags.target import Target

__all__ = ["class_weights", "make_criterion"]


def class_weights(settings: LossSettings, target: Target, counts: Sequence[int], bags: int) -> list[float] | None:
    """A weight for each class, or for the positive bags of each label; None for none.

    Args:
        settings: What is asked for.
        target: Classes.
        counts: Bags of each class in the training part.
        bags: All bags of it.
    """
    if settings.class_weights is None:
        return None
    if settings.class_weights == "balanced":
        if target.several:
            return [(bags - count) / count for count in counts]
        return [bags / (len(counts) * count) for count in counts]
    return [settings.class_weights.get(name, 1.0) for name in target.names]


def make_criterion(target: Target, *, weights: Sequence[float] | None, smoothing: float) -> Criterion:
    """The loss of logits `(B, classes)` against int64 `(B,)`, or float `(B, classes)` for several labels."""

    def one_class(logits: Tensor, wanted: Tensor) -> Tensor:
        weight = None if weights is None else logits.new_tensor(weights)
        return functional.cross_entropy(logits, wanted, weight, label_smoothing=smoothing)

    def several_labels(logits: Tensor, wanted: Tensor) -> Tensor:
        weight = None if weights is None else logits.new_tensor(weights)
        soft = wanted * (1 - smoothing) + smoothing / 2
        return functional.binary_cross_entropy_with_logits(logits, torch.as_tensor(soft), pos_weight=weight)

    return several_labels if target.several else one_class
