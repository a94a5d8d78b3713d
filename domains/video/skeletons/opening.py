"""Any file of skeletons, by its ending; and many of them in one file of the common layout."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from domains.video.skeletons.joints import JointSet, joint_set, joint_set_names, require_same
from domains.video.skeletons.sequences import SkeletonSet, load_skeletons
from pipelines.caseids import some
from pipelines.errors import ConfigurationError, DataError

__all__ = ["ENDINGS", "find_joints", "gather", "open_skeletons", "read_class_names", "skeleton_files"]

ENDINGS = (".parquet", ".npz", ".pkl", ".pickle", ".json", ".skeleton")
"""Of two files of one name, the one whose ending stands first is the fuller one."""

_PROVENANCE = "provenance.json"
"""What a prediction leaves beside each result."""


def find_joints(named: str) -> JointSet:
    """A known set of joints by its name, or one that a JSON file describes.

    Raises:
        ConfigurationError: Neither is there.
        DataError: The file describes no set.
    """
    if named in joint_set_names() or not named.endswith(".json"):
        return joint_set(named)
    try:
        return JointSet.from_description(json.loads(Path(named).read_text(encoding="utf-8")))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"no set of joints can be read from {named}: {error}") from error


def read_class_names(path: Path) -> tuple[str, ...]:
    """Names of classes from a text file, one in each line. Raises `DataError`."""
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name}: no class names can be read: {error}") from error
    if len(set(names)) < len(names):
        raise DataError(f"{path.name} names a class twice: {some(n for n, k in Counter(names).items() if k > 1)}")
    return names


def open_skeletons(
    path: Path,
    joints: JointSet | None = None,
    *,
    classes: Sequence[str] = (),
    split: str = "",
    in_picture: bool = False,
) -> SkeletonSet:
    """The skeletons of one file.

    Args:
        path: `.npz` (the layout of `pulvinar video convert`), `.parquet` (what a pose model leaves of a video), `.pkl`
            (MMAction2, PYSKL), `.json` (COCO, PoseTrack) or `.skeleton` (NTU RGB+D).
        joints: Which joints it holds, where it does not say.
        classes: Names of its numbered classes, where it does not say.
        split: Which published split to keep, where it has several.
        in_picture: Of a file that has both, joints in pixels of the picture in place of metres.

    Raises:
        JointSetMismatch: It holds other joints.
        DataError: It cannot be read, or its ending is none of these.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        return load_skeletons(path, joints, classes)
    if ending in (".pkl", ".pickle"):
        from domains.video.skeletons.mmaction import read_mmaction

        if joints is None:
            raise DataError(f"{path.name} does not say which joints it holds", hint="Name them: --joints coco17, say.")
        return _named(read_mmaction(path, joints, split=split), classes, path)
    if ending == ".parquet":
        from domains.video.skeletons.pose_tables import read_pose_table

        return read_pose_table(path, joints)
    if ending == ".json":
        from domains.video.skeletons.keypoint_json import read_keypoint_json

        return read_keypoint_json(path, joints)
    if ending == ".skeleton":
        from domains.video.skeletons.ntu import read_ntu

        found = read_ntu(path, in_picture=in_picture)
        if joints is not None:
            require_same(joints, found.joints, path.name)
        return found
    raise DataError(
        f"{path.name}: no reader for {ending or 'a name without an ending'}; there are {', '.join(ENDINGS)}"
    )


def gather(
    paths: Sequence[Path], joints: JointSet | None = None, *, classes: Sequence[str] = (), split: str = ""
) -> SkeletonSet:
    """The skeletons of many files, or of all in a folder, as one set.

    Raises:
        JointSetMismatch: Files hold different joints.
        DataError: A file cannot be read, a name stands twice, or there is none.
    """
    files = [file for path in paths for file in (skeleton_files(path) if path.is_dir() else [path])]
    if not files:
        raise DataError(f"no skeletons in {some(map(str, paths))}", hint=f"Files end in {', '.join(ENDINGS)}.")
    sets = []
    for file in files:
        sets.append(open_skeletons(file, joints, classes=classes, split=split))
        require_same(sets[0].joints, sets[-1].joints, file.name)
    sequences = tuple(sequence for one in sets for sequence in one.sequences)
    if twice := [name for name, count in Counter(one.name for one in sequences).items() if count > 1]:
        raise DataError(f"names of clips stand more than once: {some(twice)}")
    order = tuple(dict.fromkeys(name for one in sets for name in one.classes))
    return SkeletonSet(joints or sets[0].joints, sequences, order if len(sets) == 1 else tuple(sorted(order)))


def skeleton_files(folder: Path) -> list[Path]:
    """Files in a folder, at any depth, whose ending is one of skeletons; not hidden ones.

    In a folder that `pulvinar predict` of a pose model wrote, the JSON beside each table is no file of skeletons.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in ENDINGS and path.is_file())
    shown = [path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
    tables = [path for path in shown if path.suffix.lower() == ".parquet"]
    beside = {other for table in tables for other in (table.with_suffix(".json"), table.with_name(_PROVENANCE))}
    return [path for path in shown if path not in beside]


def _named(found: SkeletonSet, classes: Sequence[str], path: Path) -> SkeletonSet:
    if not classes:
        return found
    if named := sorted({one.label for one in found.sequences if one.label and not one.label.isdecimal()}):
        raise DataError(f"{path.name} has labels that are no numbers of classes: {some(named)}")
    numbers = {int(one.label) for one in found.sequences if one.label}
    if numbers and max(numbers) >= len(classes):
        raise DataError(f"{path.name}: label {max(numbers)} for {len(classes)} classes, counted from 0")
    renamed = [replace(one, label=classes[int(one.label)] if one.label else "") for one in found.sequences]
    return SkeletonSet(found.joints, tuple(renamed), tuple(classes))
