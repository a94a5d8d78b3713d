"""What is learned from the training part before training, and kept in the model folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.bags.target import Target
from domains.medical.slides.bagfiles import Bag
from pipelines.errors import CaseError, DataError

__all__ = ["BagPlan", "TrainingFacts", "check_origin", "origin_of"]


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


class TrainingFacts:
    """What is gathered from the training part, one bag at a time.

    Args:
        target: Classes.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        self._counts: NDArray[np.intp] = np.zeros(len(target.names), dtype=np.intp)
        self._bags = 0
        self._origin: dict[str, Any] = {}
        self._instances = 0
        self._mean: NDArray[np.float64] = np.zeros(0)
        self._squares: NDArray[np.float64] = np.zeros(0)

    def add(self, case_id: str, bag: Bag, label: NDArray[np.bool_]) -> None:
        """Takes note of a bag.

        Raises:
            DataError: It differs from those before in width, or in what made its features.
        """
        width = bag.features.shape[1]
        if not self._bags:
            self._origin, self._mean, self._squares = origin_of(bag), np.zeros(width), np.zeros(width)
        if width != len(self._mean):
            raise DataError(
                f"{case_id} has {width} features, others have {len(self._mean)}: they come from different encoders",
                hint="Extract all of them with one encoder.",
            )
        if not _alike(origin_of(bag), self._origin):
            raise DataError(
                f"the features of {case_id} are of {_named(origin_of(bag))}, others of {_named(self._origin)}",
                hint="Extract all of them with one encoder and the same weights.",
            )
        self._bags += 1
        self._counts = self._counts + label
        mean = bag.features.mean(0, dtype=np.float64)
        share = len(bag) / (self._instances + len(bag))
        apart = mean - self._mean
        self._squares += np.square(bag.features - mean).sum(0) + np.square(apart) * (self._instances * share)
        self._mean += apart * share
        self._instances += len(bag)

    def plan(self, *, pictures: bool = False) -> BagPlan:
        """The plan of the training part.

        Args:
            pictures: Whether the bags are made of pictures here.

        Raises:
            DataError: A class has no bag.
        """
        names = self._target.names
        absent = [name for name, count in zip(names, self._counts, strict=True) if not count]
        if absent:
            raise DataError(
                f"no training bag is {' or '.join(absent)}",
                hint="Divide the cases otherwise (split.stratify), or leave the class out (target.classes).",
            )
        counts = tuple(int(count) for count in self._counts)
        return BagPlan(self._target, len(self._mean), self._origin, counts, self._bags, pictures)

    def scale(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Mean and standard deviation `(F,)` of each feature over all instances; 1 where a feature never changes."""
        deviation = np.sqrt(self._squares / max(self._instances, 1))
        deviation[deviation < 1e-6 * np.maximum(1.0, np.abs(self._mean))] = 1.0
        return np.asarray(self._mean, np.float32), np.asarray(deviation, np.float32)


def origin_of(bag: Bag) -> dict[str, Any]:
    """Name and weights of the encoder, and how tiles were cut and encoded (`extraction`), where the bag says so."""
    encoder = bag.attributes.get("encoder")
    origin = {key: encoder[key] for key in ("name", "weights") if key in encoder} if isinstance(encoder, dict) else {}
    if isinstance(encoder, str):
        origin = {"name": encoder}
    extraction = bag.attributes.get("extraction")
    return {**origin, "extraction": extraction} if isinstance(extraction, dict) else origin


def check_origin(case_id: str, bag: Bag, plan: BagPlan) -> None:
    """Raises `CaseError` where a bag cannot be of the encoder, or the tiles, that a model was trained with."""
    if bag.features.shape[1] != plan.features:
        raise CaseError(
            case_id,
            f"{bag.features.shape[1]} features; the model was trained on {plan.features}",
            hint="Extract the features with the encoder that the model was trained with.",
        )
    origin = origin_of(bag)
    if not _alike(origin, plan.origin):
        raise CaseError(
            case_id,
            f"its features are of {_named(origin)}; the model was trained on {_named(plan.origin)}",
            hint="Extract the features with the encoder, and from the tiles, that the model was trained with.",
        )


def _alike(first: Mapping[str, Any], second: Mapping[str, Any]) -> bool:
    """Whether encoder, weights and tiles are the same, as far as both say it."""
    if any(first[key] != second[key] for key in ("name", "weights") if key in first and key in second):
        return False
    tiles = [one.get("extraction", {}).get("tiles", {}) for one in (first, second)]
    return all(tiles[0][key] == tiles[1][key] for key in ("mpp", "size") if key in tiles[0] and key in tiles[1])


def _named(origin: Mapping[str, Any]) -> str:
    tiles = origin.get("extraction", {}).get("tiles", {})
    told = [str(origin[key]) for key in ("name", "weights") if key in origin]
    if tiles:
        unit = "" if tiles.get("mpp") == "native" else " µm"
        told.append(f"(tiles of {tiles.get('size')} pixels, {tiles.get('mpp')}{unit})")
    return " ".join(told) or "an unknown encoder"
