"""Metrics as a report names them: label, unit, which direction is better, and the convention in one paragraph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["Metric", "describe_metric"]


@dataclass(frozen=True)
class Metric:
    """How one metric is shown.

    Attributes:
        name: As tables have it.
        label: As people say it.
        unit: `mm`, `ml` or empty.
        better: `higher`, `lower`, or empty where neither is.
        bounds: Smallest and largest possible value.
        meaning: What it says and how undefined cases are treated.
    """

    name: str
    label: str
    unit: str = ""
    better: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    meaning: str = ""


_FRACTION = (0.0, 1.0)
_DISTANCE = (0.0, None)
_EMPTY = (
    "Absent in both reference and prediction: not defined, and counted as such. Missed: 0. "
    "Predicted where the reference has none: 0."
)
_MISSED = (
    "Absent in both: not defined. Missed or invented: the worst distance possible in that image, "
    "never left out of the mean."
)

_METRICS = (
    Metric("dice", "Dice", "", "higher", _FRACTION, f"Overlap of prediction and reference, from 0 to 1. {_EMPTY}"),
    Metric("iou", "IoU", "", "higher", _FRACTION, f"Intersection over union (Jaccard index), from 0 to 1. {_EMPTY}"),
    Metric(
        "hd95",
        "HD95",
        "mm",
        "lower",
        _DISTANCE,
        f"95th percentile of the distances between the two surfaces, the larger of both directions. {_MISSED}",
    ),
    Metric(
        "assd",
        "ASSD",
        "mm",
        "lower",
        _DISTANCE,
        f"Average symmetric surface distance: mean distance between the two surfaces. {_MISSED}",
    ),
    Metric(
        "nsd",
        "NSD",
        "",
        "higher",
        _FRACTION,
        f"Normalised surface Dice: share of both surfaces that lie within the tolerance of each other. {_EMPTY}",
    ),
    Metric("sensitivity", "Sensitivity", "", "higher", _FRACTION, "Share of the reference that was found."),
    Metric("precision", "Precision", "", "higher", _FRACTION, "Share of the prediction that is right."),
    Metric("auc", "AUC", "", "higher", _FRACTION, "Area under the receiver operating characteristic curve."),
    Metric("accuracy", "Accuracy", "", "higher", _FRACTION, "Share of right answers."),
    Metric("map", "mAP", "", "higher", _FRACTION, "Mean average precision."),
    Metric("pck", "PCK", "", "higher", _FRACTION, "Share of labelled joints that lie within the threshold."),
    Metric("pck_all", "PCK, all joints alike", "", "higher", _FRACTION, "Share of all labelled joints."),
    Metric("pck_area", "Area under the PCK curve", "", "higher", _FRACTION, "From 0 to the threshold."),
    Metric("oks_ap", "OKS AP", "", "higher", _FRACTION, "COCO's average precision of keypoints."),
    Metric("oks_ap50", "OKS AP50", "", "higher", _FRACTION, "The same at a similarity of .50."),
    Metric("oks_ap75", "OKS AP75", "", "higher", _FRACTION, "The same at a similarity of .75."),
    Metric("oks_ar", "OKS AR", "", "higher", _FRACTION, "COCO's average recall of keypoints."),
    Metric("volume", "Volume", "ml", "", _DISTANCE, "Volume of the prediction."),
    Metric("reference_volume", "Reference volume", "ml", "", _DISTANCE, "Volume of the reference."),
    Metric("volume_ml", "Volume", "ml", "", _DISTANCE, "Volume of the prediction."),
    Metric("reference_volume_ml", "Reference volume", "ml", "", _DISTANCE, "Volume of the reference."),
    Metric("volume_difference", "Volume difference", "ml", "", (None, None), "Predicted minus reference volume."),
)
_BY_NAME = {metric.name: metric for metric in _METRICS}


def describe_metric(name: str, described: Mapping[str, Any] | None = None) -> Metric:
    """How a metric is shown.

    Args:
        name: As tables have it.
        described: What the run itself says of it (`label`, `better`, `unit`, `summary`); goes before what is known
            here.
    """
    known = _known(name)
    if not described:
        return known
    better = str(described.get("better", known.better)).replace("neither", "")
    meaning = str(described.get("summary") or known.meaning)
    label, unit = str(described.get("label") or known.label), str(described.get("unit", known.unit))
    return replace(known, label=label, unit=unit, better=better, meaning=meaning)


def _known(name: str) -> Metric:
    if name in _BY_NAME:
        return _BY_NAME[name]
    base, _, rest = name.partition("_")
    if base in _BY_NAME and rest:
        known = _BY_NAME[base]
        label = f"{known.label} {rest.replace('_', ' ')}"
        return Metric(name, label, known.unit, known.better, known.bounds, known.meaning)
    spoken = name.replace("_", " ")
    return Metric(name, spoken[:1].upper() + spoken[1:])
