"""What the training part decided: everything that serving a network needs besides its weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from domains.medical.segmentation.classes import Classes
from domains.medical.segmentation.layout import network_shape
from domains.medical.segmentation.planning import plan_patch, plan_strides, round_up
from domains.medical.segmentation.preprocess import Preprocessing
from domains.medical.segmentation.settings import CtIntensity, SegmentationWorkflow, UnitIntensity, ZScoreIntensity
from pipelines.errors import ConfigurationError, DataError

__all__ = ["CaseFacts", "Plan", "make_plan"]


@dataclass(frozen=True)
class CaseFacts:
    """What was seen when a case was checked; shapes and spacings along canonical axes.

    Attributes:
        shape: Voxels, after the crop where there is one.
        spacing: Millimetres.
        lowest: Smallest value of the image.
        highest: Largest value of the image.
        labelled: A sample of the intensities of labelled voxels, all channels together.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    lowest: float
    highest: float
    labelled: np.ndarray


@dataclass(frozen=True)
class Plan:
    """How a network is built and served.

    Attributes:
        classes: Names, and values in label files.
        preprocessing: With what it learnt.
        patch: Training patch and sliding window.
        spacing: Typical spacing of the network's grid, mm.
        strides: Of the network.
        synthetic: Whether the training cases were the built-in phantom.
    """

    classes: Classes
    preprocessing: Preprocessing
    patch: tuple[int, ...]
    spacing: tuple[float, ...]
    strides: tuple[tuple[int, ...], ...]
    synthetic: bool = False

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return {
            "classes": {name: list(values) for name, values in self.classes.values.items()},
            "preprocessing": self.preprocessing.describe(),
            "patch": list(self.patch),
            "spacing": list(self.spacing),
            "strides": [list(stride) for stride in self.strides],
            "synthetic": self.synthetic,
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Plan:
        """The inverse of `describe`."""
        return cls(
            Classes({name: tuple(values) for name, values in description["classes"].items()}),
            Preprocessing.from_description(description["preprocessing"]),
            tuple(description["patch"]),
            tuple(description["spacing"]),
            tuple(tuple(stride) for stride in description["strides"]),
            bool(description["synthetic"]),
        )


def make_plan(config: SegmentationWorkflow, classes: Classes, facts: Sequence[CaseFacts], *, channels: int) -> Plan:
    """Decides from the training part what the workflow leaves open.

    Args:
        config: The workflow.
        classes: Classes.
        facts: What was seen of the training cases.
        channels: Channels of an image.

    Raises:
        ConfigurationError: The workflow does not fit the number of axes of the cases.
        DataError: The cases cannot be used together.
    """
    if not facts:
        raise DataError("the training part is empty", hint="`pulvinar plan` shows how many cases each part has.")
    ranks = sorted({len(case.shape) for case in facts})
    if len(ranks) > 1:
        raise DataError(
            "the training part mixes images and volumes", hint="Train on one kind; split the data set in two."
        )
    rank = ranks[0]
    _check_rank(config, rank)
    wanted = config.preprocess.spacing
    typical = tuple(float(value) for value in np.median([case.spacing for case in facts], axis=0))
    target = typical if wanted == "auto" else None if wanted is None else tuple(map(float, wanted))
    preprocessing = Preprocessing(
        rank=rank,
        channels=channels,
        spacing=target,
        intensity=_fit_intensity(config.preprocess.intensity, facts),
        crop_foreground=config.preprocess.crop_foreground,
    )
    spacing = target or typical
    levels = len(config.model.channels)
    given = config.patches.size
    if given == "auto":
        shapes = [network_shape(case.shape, case.spacing, target) for case in facts]
        patch = plan_patch(shapes, spacing, voxels=config.patches.voxels)
    else:
        patch = tuple(given)
    strides = config.model.strides
    strides = plan_strides(patch, spacing, levels) if strides == "auto" else tuple(tuple(stride) for stride in strides)
    if given == "auto":
        patch = round_up(patch, strides)
    return Plan(classes, preprocessing, patch, spacing, strides, synthetic=config.data.format == "phantom")


def _check_rank(config: SegmentationWorkflow, rank: int) -> None:
    for key, value in (
        ("patches.size", config.patches.size),
        ("infer.window", config.infer.window),
        ("preprocess.spacing", config.preprocess.spacing),
        *((f"model.strides[{index}]", stride) for index, stride in enumerate(config.model.strides)),
    ):
        if isinstance(value, tuple) and len(value) != rank:
            raise ConfigurationError(f"{key} has {len(value)} axes, the cases have {rank}: give {rank} numbers")
    axes = config.infer.mirror if isinstance(config.infer.mirror, tuple) else ()
    for key, chosen in (("augment.mirror.axes", config.augment.mirror.axes), ("infer.mirror", axes)):
        if any(axis >= rank for axis in chosen):
            raise ConfigurationError(f"{key} names axis {max(chosen)}; the cases have axes 0 to {rank - 1}")


def _fit_intensity(
    settings: ZScoreIntensity | CtIntensity | UnitIntensity, facts: Sequence[CaseFacts]
) -> dict[str, Any]:
    if isinstance(settings, ZScoreIntensity):
        return {"name": "zscore", "clip": list(settings.clip) if settings.clip else None}
    if isinstance(settings, UnitIntensity):
        highest = max(case.highest for case in facts)
        limit = next((limit for limit in (1.0, 255.0, 65535.0) if highest <= limit), highest)
        return {"name": "unit", "maximum": limit}
    sample = np.concatenate([case.labelled for case in facts]).astype(np.float64)
    if sample.size == 0:
        raise DataError("no voxel of the training part is labelled", hint="Check `classes` and the label files.")
    window = settings.window or tuple(float(value) for value in np.quantile(sample, settings.quantiles))
    clipped = sample.clip(window[0], window[1])
    deviation = float(clipped.std())
    return {
        "name": "ct",
        "window": list(window),
        "mean": float(clipped.mean()),
        "deviation": deviation if deviation > 0 else 1.0,
    }
