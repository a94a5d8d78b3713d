"""Skeletons over time, and the one layout in which they lie on disk: a `.npz` without pickled objects.

| array | shape | |
|---|---|---|
| `pose` | `(R, J, D)` float | coordinates: sequences in order, within one its persons, within those frames |
| `length` | `(S,)` int | frames of each sequence |
| `persons` | `(S,)` int | persons of each sequence; left out: one. `R` is the sum of persons × length |
| `confidence` | `(R, J)` float | 0 for a joint not seen; left out: 1, and 0 where a coordinate is not a number |
| `label` | `(S,)` int or text | class: a number is a place in `classes`; −1 or empty is unknown; may be left out |
| `classes` | `(C,)` text | names of the classes |
| `name`, `group`, `split` | `(S,)` text | identifier, what must stay in one part, and the part; may be left out |
| `size` | `(S, 2)` int | height and width of the pictures that coordinates are pixels of; 0, or left out: unknown |
| `joints` | text | the set of joints as JSON; left out: the reader must be told |
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.skeletons.joints import JointSet, require_same
from pipelines.errors import DataError

__all__ = ["SkeletonSequence", "SkeletonSet", "known_size", "load_skeletons", "save_skeletons", "seen_only"]

_NEEDED = ("pose", "length")


@dataclass(frozen=True, eq=False)
class SkeletonSequence:
    """The persons of one clip.

    Attributes:
        name: Unique in its set.
        coordinates: float32 `(P, T, J, D)`, in whatever unit the source has; 0 where not seen.
        confidence: float32 `(P, T, J)`, 0 where not seen.
        label: Name of the class; empty where unknown.
        group: What must stay in one part of a split; the name where nothing else is known.
        split: `train`, `validation`, `test` or empty.
        size: Height and width of the pictures that coordinates are pixels of; None where nobody says.
        times: float64 `(T,)`, seconds of each frame, NaN for one that nobody tells of; None where none is told.
    """

    name: str
    coordinates: NDArray[np.float32]
    confidence: NDArray[np.float32]
    label: str = ""
    group: str = ""
    split: str = ""
    size: tuple[int, int] | None = None
    times: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class SkeletonSet:
    """Sequences of one set of joints.

    Attributes:
        joints: The joints.
        sequences: The clips.
        classes: Names of the classes in order, where the source has an order; a label may be none of them only if
            it is empty.
    """

    joints: JointSet
    sequences: tuple[SkeletonSequence, ...]
    classes: tuple[str, ...] = ()


def seen_only(
    coordinates: NDArray[Any], confidence: NDArray[Any] | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coordinates `(..., D)` and confidence `(...)` as float32; what is not finite was not seen, and is 0 in both."""
    values = np.asarray(coordinates, dtype=np.float32)
    finite = np.isfinite(values).all(-1)
    known = np.ones(values.shape[:-1], np.float32) if confidence is None else np.asarray(confidence, dtype=np.float32)
    known = np.where(finite & np.isfinite(known) & (known > 0), known, 0.0).astype(np.float32)
    return np.where(known[..., None] > 0, values, 0.0).astype(np.float32), known


def known_size(height: Any, width: Any) -> tuple[int, int] | None:
    """Height and width where both are whole numbers above 0; else None, as where a file does not say them."""
    try:
        size = int(height), int(width)
    except (TypeError, ValueError):
        return None
    return size if min(size) > 0 else None


def save_skeletons(found: SkeletonSet, path: Path) -> None:
    """Writes the layout, by an atomic rename. Raises `DataError` where sequences do not share the number of axes."""
    axes = {sequence.coordinates.shape[-1] for sequence in found.sequences}
    if len(axes) != 1:
        raise DataError(f"{path.name}: sequences of {sorted(axes) or 'no'} axes cannot lie in one file")
    classes = found.classes or tuple(sorted({one.label for one in found.sequences} - {""}))
    held = {
        "pose": np.concatenate([one.coordinates.reshape(-1, *one.coordinates.shape[2:]) for one in found.sequences]),
        "confidence": np.concatenate([one.confidence.reshape(-1, len(found.joints)) for one in found.sequences]),
        "length": np.array([one.coordinates.shape[1] for one in found.sequences], np.int64),
        "persons": np.array([len(one.coordinates) for one in found.sequences], np.int64),
        "label": np.array([classes.index(one.label) if one.label else -1 for one in found.sequences], np.int64),
        "classes": np.array(classes, dtype=str),
        "joints": np.array(json.dumps(found.joints.describe())),
    }
    for field in ("name", "group", "split"):
        held[field] = np.array([getattr(one, field) for one in found.sequences], dtype=str)
    if any(one.size for one in found.sequences):
        held["size"] = np.array([one.size or (0, 0) for one in found.sequences], np.int64)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with beside.open("wb") as file:
        np.savez_compressed(file, **held)  # type: ignore[arg-type]
    beside.replace(path)


def load_skeletons(path: Path, joints: JointSet | None = None, classes: Sequence[str] = ()) -> SkeletonSet:
    """Reads the layout.

    Args:
        path: The `.npz`.
        joints: The set of joints, where the file does not say it.
        classes: Names of the classes, where the file does not say them.

    Raises:
        JointSetMismatch: The file says another set of joints.
        DataError: It is not there, damaged, or its arrays do not belong together.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check the path.") from error
    except (ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path.name} is not a readable file of arrays: {error}") from error
    if missing := [name for name in _NEEDED if name not in held]:
        raise DataError(
            f"{path.name} has no array {', '.join(missing)}; it has {', '.join(held) or 'none'}",
            hint="`pulvinar video convert` writes the layout from other formats.",
        )
    known = _joints_of(path, held, joints)
    return SkeletonSet(known, *_sequences(path, held, known, tuple(classes)))


def _joints_of(path: Path, held: dict[str, NDArray[Any]], joints: JointSet | None) -> JointSet:
    if "joints" not in held:
        if joints is None:
            raise DataError(f"{path.name} does not say which joints it holds", hint="Name them: joints=jhmdb15, say.")
        return joints
    try:
        described = json.loads(str(held["joints"]))
    except json.JSONDecodeError as error:
        raise DataError(f"{path.name}: its joints are not JSON: {error}") from error
    found = JointSet.from_description(described)
    if joints is not None:
        require_same(joints, found, path.name)
    return found


def _sequences(
    path: Path, held: dict[str, NDArray[Any]], joints: JointSet, classes: tuple[str, ...]
) -> tuple[tuple[SkeletonSequence, ...], tuple[str, ...]]:
    if wrong := [name for name in ("pose", "length", "persons") if name in held and held[name].dtype.kind not in "iuf"]:
        raise DataError(f"{path.name}: {', '.join(wrong)} holds no numbers")
    pose, length = held["pose"], held["length"].astype(int)
    persons = held["persons"].astype(int) if "persons" in held else np.ones_like(length)
    if pose.ndim != 3 or pose.shape[1] != len(joints) or pose.shape[2] not in (2, 3):
        raise DataError(f"{path.name}: pose {pose.shape}; {joints.name} takes (rows, {len(joints)}, 2 or 3)")
    if length.ndim != 1 or persons.shape != length.shape:
        raise DataError(f"{path.name}: persons {persons.shape} for length {length.shape}")
    if not len(length):
        raise DataError(f"{path.name} holds no sequences")
    rows = persons * length
    if (rows < 1).any() or rows.sum() != len(pose):
        raise DataError(f"{path.name}: {len(pose)} rows of pose, but length × persons are {int(rows.sum())}")
    if "confidence" in held and held["confidence"].shape != pose.shape[:2]:
        raise DataError(f"{path.name}: confidence {held['confidence'].shape} for pose {pose.shape}")
    for name in ("label", "name", "group", "split"):
        if name in held and held[name].shape != length.shape:
            raise DataError(f"{path.name}: {name} {held[name].shape} for {len(length)} sequences")
    if "size" in held and held["size"].shape != (len(length), 2):
        raise DataError(
            f"{path.name}: size {held['size'].shape} for {len(length)} sequences; allowed is (sequences, 2)"
        )
    coordinates, confidence = seen_only(pose, held.get("confidence"))
    labels, order = _labels(path, held, classes)
    width = len(str(len(length) - 1))
    names = (
        [str(name) for name in held["name"]] if "name" in held else [f"clip-{n:0{width}d}" for n in range(len(rows))]
    )
    ends = np.cumsum(rows)
    found = []
    for number, (end, count, frames) in enumerate(zip(ends, persons, length, strict=True)):
        piece = slice(end - count * frames, end)
        found.append(
            SkeletonSequence(
                names[number],
                coordinates[piece].reshape(count, frames, *pose.shape[1:]),
                confidence[piece].reshape(count, frames, len(joints)),
                labels[number],
                str(held["group"][number]) if "group" in held else "",
                str(held["split"][number]) if "split" in held else "",
                known_size(*held["size"][number]) if "size" in held else None,
            )
        )
    return tuple(found), order


def _labels(path: Path, held: dict[str, NDArray[Any]], classes: tuple[str, ...]) -> tuple[list[str], tuple[str, ...]]:
    count = len(held["length"])
    if "label" not in held:
        return [""] * count, ()
    label = held["label"]
    if label.dtype.kind in "fb" and (np.isfinite(label) & (label == np.round(label))).all():
        label = label.astype(np.int64)  # numbers of classes as MATLAB and others write them
    if label.dtype.kind in "fb":
        raise DataError(f"{path.name}: labels are no whole numbers, such as {label[label != np.round(label)][:3]}")
    if label.dtype.kind not in "iu":
        return [str(one) for one in label], tuple(sorted({str(one) for one in label} - {""}))
    own = tuple(str(name) for name in held["classes"]) if "classes" in held else ()
    if own and classes and own != classes:
        raise DataError(f"{path.name} names the classes {', '.join(own)}; given were {', '.join(classes)}")
    order = own or classes
    if not order:
        width = len(str(int(label.max())))
        order = tuple(f"class-{number:0{width}d}" for number in range(int(label.max()) + 1))
    if label.max() >= len(order) or label.min() < -1:
        raise DataError(
            f"{path.name}: labels from {label.min()} to {label.max()} for {len(order)} classes",
            hint="A label is a place in the classes, counted from 0; -1 is unknown.",
        )
    return ["" if one < 0 else order[one] for one in label], order
