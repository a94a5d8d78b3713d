"""Skeletons as MMAction2 and PYSKL hand them round: a pickle, read as data only.

    {"split": {"sub1_train": [names], "sub1_test": [names]}, "annotations": [{"frame_dir", "label", "keypoint", ...}]}

or the list of annotations alone. `keypoint` is `(persons, frames, joints, 2 or 3)`, `keypoint_score` without the last
axis. The file does not say which joints it holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from domains.video.skeletons.joints import JointSet, JointSetMismatch
from domains.video.skeletons.pickles import read_pickle
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, known_size, seen_only
from pipelines.caseids import some
from pipelines.errors import DataError

__all__ = ["read_mmaction"]

_PARTS = {"train": "train", "val": "test", "test": "test"}
"""The second part of a published split is what results are told of, whatever it is called."""


def read_mmaction(path: Path, joints: JointSet, *, split: str = "") -> SkeletonSet:
    """The annotations of a pickle.

    Args:
        path: The pickle.
        joints: Which joints it holds.
        split: Which of the splits in the file to keep, such as `sub1` for `sub1_train` and `sub1_test`; empty takes
            the only one, or none of several.

    Raises:
        UnsafePickle: It is more than data.
        JointSetMismatch: It has another number of joints.
        DataError: It is no such file, or has no such split.
    """
    held = read_pickle(path)
    annotations = held.get("annotations") if isinstance(held, Mapping) else held
    if not isinstance(annotations, Sequence) or not annotations or not isinstance(annotations[0], Mapping):
        raise DataError(f"{path.name} has no annotations", hint="Expected a list, or a dict with `annotations`.")
    parts = _parts(path, held.get("split", {}) if isinstance(held, Mapping) else {}, split)
    if not all(isinstance(one, Mapping) for one in annotations):
        raise DataError(
            f"{path.name} has annotations that are no dict", hint="Each is one clip: frame_dir, keypoint, …"
        )
    return SkeletonSet(joints, tuple(_sequence(path, one, joints, parts) for one in annotations))


def _parts(path: Path, splits: Any, wanted: str) -> dict[str, str]:
    if not isinstance(splits, Mapping):
        raise DataError(f"{path.name}: split is a {type(splits).__name__}, expected names and their clips")
    named: dict[str, dict[str, Sequence[Any]]] = {}
    for full, members in splits.items():
        head, _, tail = str(full).rpartition("_")
        if tail in _PARTS:
            named.setdefault(head, {})[tail] = members
    if wanted and wanted not in named:
        raise DataError(f"{path.name} has no split {wanted!r}; it has {some(sorted(named)) or 'none'}")
    chosen = named[wanted] if wanted else next(iter(named.values())) if len(named) == 1 else {}
    return {str(name): _PARTS[part] for part, members in chosen.items() for name in members}


def _sequence(path: Path, one: Mapping[str, Any], joints: JointSet, parts: Mapping[str, str]) -> SkeletonSequence:
    name = str(one.get("frame_dir", one.get("filename", "")))
    points = one.get("keypoint")
    if not name or not isinstance(points, np.ndarray) or points.ndim != 4 or points.shape[3] not in (2, 3):
        shape = getattr(points, "shape", None)
        raise DataError(
            f"{path.name}: {name or 'a clip without a name'} has keypoint {shape}, expected (P, T, J, 2 or 3)"
        )
    if not points.shape[1]:
        raise DataError(f"{path.name}: {name} has no frames", hint="Leave it out.")
    if points.shape[2] != len(joints):
        raise JointSetMismatch(
            f"{path.name}: {name} has {points.shape[2]} joints, {joints.name} has {len(joints)}",
            hint="Name the joints that the file holds.",
        )
    score = one.get("keypoint_score")
    if score is not None and np.shape(score) != points.shape[:3]:
        raise DataError(f"{path.name}: {name} has keypoint_score {np.shape(score)} for keypoint {points.shape}")
    if not len(points):  # nobody was found: someone who is never seen stands for it
        points, score = np.zeros((1, *points.shape[1:]), np.float32), None
    # Estimators leave the persons they did not find at 0, 0.
    score = (points != 0).any(-1) if score is None else score
    label = "" if one.get("label") is None else str(one["label"])
    # The order of numbered classes is kept: 2 before 10.
    label = f"{int(label):03d}" if label.isdecimal() else label
    shape = one.get("img_shape", one.get("original_shape"))
    size = known_size(*shape) if isinstance(shape, (tuple, list)) and len(shape) == 2 else None
    return SkeletonSequence(name, *seen_only(points, score), label, "", parts.get(name, ""), size)
