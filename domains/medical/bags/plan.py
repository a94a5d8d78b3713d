"""What is learned from the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.bags.target import Target
from domains.medical.slides.bagfiles import Bag
from pipelines.errors import CaseError, DataError

__all__ = ["BagPlan", "check_origin", "make_plan", "measure_features"]


@dataclass(frozen=True)
class BagPlan:
    """Classes and instances of a model.

    Attributes:
        target: Classes.
        features: Width of an instance.
        origin: What made the features (encoder and weights), where the bags say so.
        class_counts: Bags of each class in the training part.
        training_bags: Bags in the training part.
        pictures: Whether bags are made of pictures here, with the encoder that the settings name.
    """

    target: Target
    features: int
    origin: Mapping[str, Any] = field(default_factory=dict)
    class_counts: tuple[int, ...] = ()
    training_bags: int = 0
    pictures: bool = False

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "target": self.target.describe(),
            "features": self.features,
            "origin": dict(self.origin),
            "class_counts": list(self.class_counts),
            "training_bags": self.training_bags,
            "pictures": self.pictures,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> BagPlan:
        """The inverse of `describe`."""
        return cls(
            Target.from_description(description["target"]),
            int(description["features"]),
            dict(description["origin"]),
            tuple(description["class_counts"]),
            int(description["training_bags"]),
            bool(description["pictures"]),
        )


def make_plan(
    target: Target, bags: Sequence[Bag], labels: Sequence[NDArray[np.bool_]], *, pictures: bool = False
) -> BagPlan:
    """The plan of a training part.

    Args:
        target: Classes.
        bags: Its bags.
        labels: Bool `(classes,)` of each.
        pictures: Whether the bags are made of pictures here.

    Raises:
        DataError: Bags differ in width or in what made their features, or a class has no bag.
    """
    widths = sorted({bag.features.shape[1] for bag in bags})
    if len(widths) > 1:
        raise DataError(
            f"bags have {', '.join(map(str, widths))} features: they come from different encoders",
            hint="Extract all of them with one encoder.",
        )
    origins = [origin_of(bag) for bag in bags]
    if any(origin != origins[0] for origin in origins):
        names = sorted({str(origin.get("name", "unknown")) for origin in origins})
        raise DataError(
            f"the features of the bags were made by different encoders: {', '.join(names)}",
            hint="Extract all of them with one encoder and the same weights.",
        )
    counts = np.sum(labels, axis=0)
    absent = [name for name, count in zip(target.names, counts, strict=True) if not count]
    if absent:
        raise DataError(
            f"no training bag is {' or '.join(absent)}",
            hint="Divide the cases otherwise (split.stratify), or leave the class out (target.classes).",
        )
    return BagPlan(target, widths[0], origins[0], tuple(int(count) for count in counts), len(bags), pictures)


def measure_features(bags: Sequence[Bag]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and standard deviation `(F,)` of each feature over all instances; one where a feature never changes."""
    count = sum(len(bag) for bag in bags)
    mean = sum(bag.features.sum(0, dtype=np.float64) for bag in bags) / count
    squares = sum(np.square(bag.features - mean, dtype=np.float64).sum(0) for bag in bags)
    deviation = np.sqrt(squares / count)
    deviation[deviation < 1e-6 * np.maximum(1.0, np.abs(mean))] = 1.0
    return np.asarray(mean, np.float32), np.asarray(deviation, np.float32)


def origin_of(bag: Bag) -> dict[str, Any]:
    """Name and weights of the encoder, and the resolution and size of its tiles, where the bag says so."""
    encoder = bag.attributes.get("encoder")
    origin = {key: encoder[key] for key in ("name", "weights") if key in encoder} if isinstance(encoder, dict) else {}
    if isinstance(encoder, str):
        origin = {"name": encoder}
    return origin


def check_origin(case_id: str, bag: Bag, plan: BagPlan) -> None:
    """Raises `CaseError` where a bag cannot be of the encoder that a model was trained with."""
    if bag.features.shape[1] != plan.features:
        raise CaseError(
            case_id,
            f"{bag.features.shape[1]} features; the model was trained on {plan.features}",
            hint="Extract the features with the encoder that the model was trained with.",
        )
    origin = origin_of(bag)
    if origin and plan.origin and origin != plan.origin:
        raise CaseError(
            case_id,
            f"its features are of {_named(origin)}; the model was trained on {_named(plan.origin)}",
            hint="Extract the features with the encoder that the model was trained with.",
        )


def _named(origin: Mapping[str, Any]) -> str:
    return " ".join(str(value) for value in origin.values())
