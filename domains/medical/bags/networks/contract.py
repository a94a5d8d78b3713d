"""What every bag network takes and gives.

    bags (B, N, F), mask (B, N)  ->  logits (B, classes), attention (B, K, N)

A padded bag gives what it gives alone; a mask is bool, True for a real instance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["Aggregator", "BagOutput", "Criterion", "Embedding", "check_bags", "class_targets"]

Criterion = Callable[[Tensor, Tensor], Tensor]
"""Logits `(B, classes)` and targets → a scalar; targets are int64 `(B,)`, for several labels float `(B, classes)`."""


class BagOutput(NamedTuple):
    """What a network says of a batch of bags.

    Attributes:
        logits: `(B, classes)`.
        attention: `(B, K, N)`, how much each instance counts, for each branch (or class) summing to one over real
            instances; None where a network computes it only in evaluation.
        parts: What else the loss of this network needs.
    """

    logits: Tensor
    attention: Tensor | None
    parts: Mapping[str, Tensor] = {}


class Aggregator(nn.Module, ABC):
    """A network that gives a bag its class.

    Args:
        features: Width `F` of an instance.
        classes: Logits.

    Raises:
        ValueError: One of them is not above zero.
    """

    attends_by_class: ClassVar[bool] = False
    """Whether row `k` of the attention belongs to class `k`."""

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        for name, value in (("features", features), ("classes", classes)):
            if value < 1:
                raise ValueError(f"{name} {value} is not above zero")
        self.features, self.classes = features, classes

    def forward(self, bags: Tensor, mask: Tensor | None = None) -> BagOutput:
        """Looks at bags.

        Args:
            bags: `(B, N, F)`, floating point; what stands in padded instances does not matter.
            mask: bool `(B, N)`, True for a real instance; None where all are real.

        Raises:
            ValueError: A shape or dtype does not fit, or a bag has no instance.
        """
        check_bags(bags, mask, self.features)
        if mask is not None:
            mask = None if bool(mask.all()) else mask
            bags = bags if mask is None else bags.masked_fill(~mask.unsqueeze(-1), 0.0)
        return self.aggregate(bags, mask)

    @abstractmethod
    def aggregate(self, bags: Tensor, mask: Tensor | None) -> BagOutput:
        """The network itself, on checked bags whose padded instances are zero."""

    def losses(self, output: BagOutput, target: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """Scalars by name; `loss` is the one to minimise."""
        return {"loss": criterion(output.logits, target)}


class Embedding(nn.Sequential):
    """Linear layers with ReLU on each instance; none at all for no widths.

    Args:
        features: Width of an instance.
        widths: Width of each layer.
        bias: Whether the layers have an additive bias.
        dropout: Probability that a unit is dropped in training, after each layer.
    """

    def __init__(self, features: int, widths: Sequence[int], *, bias: bool = True, dropout: float = 0.0) -> None:
        layers: list[nn.Module] = []
        before = features
        for width in widths:
            if width < 1:
                raise ValueError(f"hidden {tuple(widths)} holds a width below one")
            layers += [nn.Linear(before, width, bias=bias), nn.ReLU()]
            layers += [nn.Dropout(dropout)] if dropout else []
            before = width
        super().__init__(*layers)
        self.width = before


def check_bags(bags: Tensor, mask: Tensor | None, features: int) -> None:
    """Raises a ValueError unless `bags` is floating point `(B, N, features)` and each bag has a real instance."""
    shape = tuple(bags.shape)
    if bags.ndim != 3 or not bags.is_floating_point() or 0 in shape:
        raise ValueError(f"bags {shape} of {bags.dtype}; allowed is floating point (B, N, {features}), B and N above 0")
    if shape[-1] != features:
        raise ValueError(f"bags {shape} have {shape[-1]} features; the network was built for {features}")
    if mask is None:
        return
    if mask.dtype != torch.bool or mask.shape != bags.shape[:-1]:
        raise ValueError(f"mask {tuple(mask.shape)} of {mask.dtype}; allowed is torch.bool {shape[:-1]}")
    if not bool(mask.any(1).all()):
        raise ValueError("a bag has no real instance")


def class_targets(target: Tensor, classes: int) -> Tensor:
    """Targets as bool `(B, classes)`, whichever of the two kinds they are."""
    if target.ndim == 2:
        return target > 0.5
    return nn.functional.one_hot(target, classes).bool()
