"""How well a segmentation agrees with its reference: overlap, and distances between surfaces in mm.

    >>> import numpy as np
    >>> reference = np.zeros((8, 8, 4), dtype=np.uint8)         # (*S)
    >>> reference[2:6, 2:6, 1:3] = 1
    >>> prediction = np.roll(reference, 1, axis=0)               # (*S), one voxel off
    >>> judged = segmentation_metrics(prediction, reference, (1.0, 1.0, 3.0), classes={"tumour": 1})
    >>> judged["tumour"].values["dice"], judged["tumour"].values["hd95"]
    (0.75, 1.0)

The surface of a structure is its voxels that have a neighbour across a face outside of it, or outside the image; its
points are the voxels' centres. A distance is that of a surface point to the nearest surface point of the other
structure. This is the convention of MONAI and MedPy; with d the distances of all surface points in one direction and in
the other,

    hd95    the larger of the two directions' 95th percentiles (linear between ranks), as in MONAI
    assd    the mean of d over both directions together, as MONAI's symmetric average surface distance
    nsd     the share of d, over both directions together, within the tolerance, as MONAI's surface Dice

| prediction | reference | dice, iou, nsd, sensitivity, precision | hd95, assd            | note         |
| ---------- | --------- | -------------------------------------- | --------------------- | ------------ |
| empty      | empty     | NaN                                    | NaN                   | `both empty` |
| empty      | not empty | 0                                      | diagonal of the image | `missed`     |
| not empty  | empty     | 0                                      | diagonal of the image | `invented`   |
| none       | any       | 0                                      | diagonal of the image | `failed: …`  |
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipelines.evaluation import Metric
from pipelines.task import MetricRow

__all__ = ["METRICS", "ClassMetrics", "metric_rows", "segmentation_metrics"]

METRICS: Mapping[str, Metric] = {
    "dice": Metric("higher", 0.0, "", "overlap: 2 |P ∩ R| / (|P| + |R|)"),
    "iou": Metric("higher", 0.0, "", "overlap: |P ∩ R| / |P ∪ R|"),
    "hd95": Metric("lower", None, "mm", "95th percentile of the distances between the surfaces"),
    "assd": Metric("lower", None, "mm", "mean distance between the surfaces"),
    "nsd": Metric("higher", 0.0, "", "share of both surfaces within the tolerance of the other"),
    "sensitivity": Metric("higher", 0.0, "", "share of the reference that is found"),
    "precision": Metric("higher", 0.0, "", "share of the prediction that is right"),
    "volume": Metric("neither", None, "ml", "volume of the prediction"),
    "reference_volume": Metric("neither", None, "ml", "volume of the reference"),
    "area": Metric("neither", None, "mm²", "area of the prediction, in place of a volume in 2D"),
    "reference_area": Metric("neither", None, "mm²", "area of the reference, in place of a volume in 2D"),
}
"""What the numbers mean."""

_RATIOS = ("dice", "iou", "nsd", "sensitivity", "precision")
_DISTANCES = ("hd95", "assd")
_ORDER = ("dice", "iou", "hd95", "assd", "nsd", "sensitivity", "precision")
_ROUNDING = 1e-6
"""In mm. A distance of exactly the tolerance is within it, however its last bits were rounded."""

Labels = NDArray[np.integer[Any]] | NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMetrics:
    """The judgement of one class in one case.

    Attributes:
        values: Metric → value, NaN where undefined.
        note: `both empty`, `missed`, `invented`, `failed: …`, or empty.
    """

    values: Mapping[str, float]
    note: str = ""


def segmentation_metrics(
    prediction: Labels | None,
    reference: Labels,
    spacing: Sequence[float],
    *,
    classes: Mapping[str, int | Sequence[int]],
    tolerance: float | Mapping[str, float] = 1.0,
    region: NDArray[Any] | None = None,
) -> dict[str, ClassMetrics]:
    """Judges every class of one case on the grid of the reference.

    Args:
        prediction: Integer labels `(*S)`, 2D or 3D; None for a prediction that failed.
        reference: Integer labels `(*S)`.
        spacing: Distance of voxel centres along each axis, in mm.
        classes: Class name → its value, or the values that make it together.
        tolerance: Distance in mm within which two surfaces agree (`nsd`); one for all classes, or by class name.
        region: Non-zero where is judged `(*S)`; labels elsewhere count as background in both.

    Returns:
        Class name → `dice, iou, hd95, assd, nsd, sensitivity, precision, volume, reference_volume`; in 2D `area` and
        `reference_area` (mm²) in place of the volumes (ml). An axis of length 1 has no extent, so surfaces are taken
        in the others.

    Raises:
        ValueError: Shapes or spacing do not fit, or labels are not integers.
    """
    _check(prediction, reference, spacing, region, classes)
    diagonal = math.hypot(*(count * float(step) for count, step in zip(reference.shape, spacing, strict=True)))
    cell = math.prod(spacing)
    kept = [axis for axis, length in enumerate(reference.shape) if length != 1] or [0]
    steps = tuple(float(spacing[axis]) for axis in kept)
    flat = tuple(axis for axis in range(reference.ndim) if axis not in kept)
    numbers = sorted({value for meaning in classes.values() for value in _values(meaning)})
    inside = None if region is None else np.asarray(region) != 0
    truth = _numbered(reference, numbers, inside).squeeze(flat)
    guess = None if prediction is None else _numbered(prediction, numbers, inside).squeeze(flat)
    boxes = [_boxes(labels) for labels in (truth, guess) if labels is not None]
    judged = {}
    for name, meaning in classes.items():
        places = [numbers.index(value) + 1 for value in _values(meaning)]
        box = _union([found[place] for found in boxes for place in places if place in found], truth.ndim)
        within = float(tolerance[name] if isinstance(tolerance, Mapping) else tolerance)
        truth_mask = _mask(truth[box], places)
        guess_mask = None if guess is None else _mask(guess[box], places)
        found, claimed = truth_mask.sum(), math.nan if guess_mask is None else guess_mask.sum()
        sizes = _sizes(claimed * cell, found * cell, reference.ndim)
        values, note = _judge(guess_mask, truth_mask, steps, diagonal, within)
        judged[name] = ClassMetrics(values | sizes, note)
    return judged


def metric_rows(case_id: str, judged: Mapping[str, ClassMetrics]) -> list[MetricRow]:
    """The judgement of one case as rows of the long table."""
    return [
        MetricRow(case_id, name, metric, value, found.note)
        for name, found in judged.items()
        for metric, value in found.values.items()
    ]


def _judge(
    guess: NDArray[np.bool_] | None,
    truth: NDArray[np.bool_],
    spacing: tuple[float, ...],
    diagonal: float,
    tolerance: float,
) -> tuple[dict[str, float], str]:
    """Values and note of one class, from masks that hold all of it."""
    if guess is None:
        return _worst(diagonal), "failed: no prediction"
    found, claimed = int(truth.sum()), int(guess.sum())
    if not found and not claimed:
        return dict.fromkeys(_ORDER, math.nan), "both empty"
    if not found or not claimed:
        return _worst(diagonal), "missed" if found else "invented"
    common = int(np.count_nonzero(guess & truth))
    forth, back = _surface_distances(guess, truth, spacing)
    both = np.concatenate([forth, back])
    values = {
        "dice": 2 * common / (claimed + found),
        "iou": common / (claimed + found - common),
        "hd95": float(max(np.quantile(forth, 0.95), np.quantile(back, 0.95))),
        "assd": float(both.mean()),
        "nsd": float(np.count_nonzero(both <= tolerance + _ROUNDING) / both.size),
        "sensitivity": common / found,
        "precision": common / claimed,
    }
    return values, ""


def _worst(diagonal: float) -> dict[str, float]:
    return {name: diagonal if name in _DISTANCES else 0.0 for name in _ORDER}


def _sizes(claimed: float, found: float, dimensions: int) -> dict[str, float]:
    """Volumes in ml, or areas in mm²."""
    name, unit = ("volume", 1e-3) if dimensions == 3 else ("area", 1.0)
    return {name: float(claimed * unit), f"reference_{name}": float(found * unit)}


def _surface_distances(
    first: NDArray[np.bool_], second: NDArray[np.bool_], spacing: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distances in mm of the first surface's points to the second surface, and of the second's to the first.

    Nearest neighbours are looked up in a tree of the surface points: on organs ten times as fast as a distance
    transform of the box around them, and the memory grows with the surface, not with the volume.
    """
    from scipy.spatial import KDTree

    points = [np.argwhere(_surface(mask)) * np.array(spacing) for mask in (first, second)]
    trees = [KDTree(cloud, balanced_tree=False, compact_nodes=False) for cloud in points]
    forth, _ = trees[1].query(points[0])
    back, _ = trees[0].query(points[1])
    return np.asarray(forth), np.asarray(back)


def _surface(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Voxels with a face neighbour outside the mask, or on the side of the array."""
    inner = mask.copy()
    for axis in range(mask.ndim):
        along, among = np.moveaxis(inner, axis, 0), np.moveaxis(mask, axis, 0)
        along[1:] &= among[:-1]
        along[:-1] &= among[1:]
        along[[0, -1]] = False
    return mask & ~inner


def _numbered(labels: Labels, numbers: Sequence[int], inside: NDArray[np.bool_] | None) -> NDArray[np.uint16]:
    """Labels as the places of their values in `numbers`, from 1; everything else is 0."""
    table = np.zeros(numbers[-1] + 2 if numbers else 1, dtype=np.uint16)
    table[numbers] = np.arange(1, len(numbers) + 1)
    whole: NDArray[Any] = np.asarray(labels)
    if whole.dtype == np.bool_:
        whole = whole.view(np.uint8)
    if whole.size and (int(whole.max()) >= len(table) or int(whole.min()) < 0):
        # Values past the table, and negative ones, mean no class; its last entry says so.
        whole = np.where((whole < 0) | (whole >= len(table)), len(table) - 1, whole)
    placed = table[whole]
    return placed if inside is None else np.where(inside, placed, 0).astype(np.uint16)


def _boxes(labels: NDArray[np.uint16]) -> dict[int, tuple[slice, ...]]:
    """Place → the smallest box that holds it; without those that are nowhere."""
    from scipy.ndimage import find_objects

    found = find_objects(labels) if labels.size else []
    return {place: box for place, box in enumerate(found, start=1) if box is not None}


def _union(boxes: Sequence[tuple[slice, ...]], dimensions: int) -> tuple[slice, ...]:
    if not boxes:
        return (slice(0, 0),) * dimensions
    return tuple(
        slice(min(side.start for side in sides), max(side.stop for side in sides)) for sides in zip(*boxes, strict=True)
    )


def _mask(labels: NDArray[np.uint16], places: Sequence[int]) -> NDArray[np.bool_]:
    return labels == places[0] if len(places) == 1 else np.isin(labels, places)


def _values(meaning: int | Sequence[int]) -> tuple[int, ...]:
    return (int(meaning),) if isinstance(meaning, int | np.integer) else tuple(int(value) for value in meaning)


def _check(
    prediction: Labels | None,
    reference: Labels,
    spacing: Sequence[float],
    region: NDArray[Any] | None,
    classes: Mapping[str, int | Sequence[int]],
) -> None:
    shape = np.shape(reference)
    if len(shape) not in {2, 3}:
        raise ValueError(f"reference has shape {shape}; labels have 2 or 3 axes")
    for name, array in (("prediction", prediction), ("region", region)):
        if array is not None and np.shape(array) != shape:
            raise ValueError(f"{name} has shape {np.shape(array)}, the reference {shape}")
    for name, labels in (("prediction", prediction), ("reference", reference)):
        if labels is not None and np.asarray(labels).dtype.kind not in "iub":
            raise ValueError(f"{name} has the type {np.asarray(labels).dtype}; labels are whole numbers")
    if len(spacing) != len(shape) or not all(math.isfinite(step) and step > 0 for step in spacing):
        raise ValueError(f"spacing {tuple(spacing)} does not fit the shape {shape}: one number above 0 for each axis")
    if any(not _values(meaning) or min(_values(meaning)) < 0 for meaning in classes.values()):
        raise ValueError(f"classes {dict(classes)}: each needs a value, 0 or above")
