"""Labelled pictures as others keep them.

| format | file | pictures |
|---|---|---|
| `lsp` | `.npz` with `joints` `(N, J, 2)`, `names` `(N,)` and maybe `visible` `(N, J)` | by name in a folder |
| `deeplabcut` | the `.csv` of a labelled-data folder | beside it, whatever their ending |
| `coco` | JSON of images and annotations, COCO's or PoseTrack's | `file_name` below a folder |
"""

from __future__ import annotations

import csv
import json
import math
import re
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.pose.labels import LabelledFrame, LabelledPerson, LabelledSet, SequenceFrame
from domains.video.skeletons.joints import JointSet, JointSetMismatch, mirrored_by_name, require_same
from domains.video.skeletons.keypoint_json import joints_of_json
from pipelines.errors import DataError
from pipelines.pictures import PICTURE_ENDINGS

__all__ = ["read_coco", "read_deeplabcut", "read_lsp"]

_HEAD = 0.6
"""Size of a head over the diagonal of its box, in PCKh of MPII and PoseTrack."""
_HEADERS = ("scorer", "individuals", "bodyparts", "coords")
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def read_lsp(path: Path, images: Path, joints: JointSet) -> LabelledSet:
    """One person in each picture; a joint that is not finite, negative or marked as not visible is not known.

    Raises:
        DataError: The file cannot be read, or its arrays do not belong together.
        JointSetMismatch: It has another number of joints.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            held: dict[str, NDArray[Any]] = {name: file[name] for name in file.files}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"{path.name} cannot be read as arrays: {error}", hint="Check data.file.") from error
    if missing := [name for name in ("joints", "names") if name not in held]:
        raise DataError(f"{path.name} has no array {', '.join(missing)}; it has {', '.join(held) or 'none'}")
    points, names = held["joints"], [str(name) for name in held["names"]]
    if points.dtype.kind not in "fiu" or points.ndim != 3 or points.shape[2] != 2 or len(points) != len(names):
        raise DataError(f"{path.name}: joints {points.shape} for {len(names)} names; allowed are (names, J, 2)")
    if points.shape[1] != len(joints):
        raise JointSetMismatch(
            f"{path.name} has {points.shape[1]} joints, {joints.name} has {len(joints)}", hint="Set data.joints."
        )
    points = points.astype(np.float32)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1) & (points >= 0).all(-1))
    if "visible" in held:
        if held["visible"].shape != known.shape:
            raise DataError(f"{path.name}: visible {held['visible'].shape} for joints {points.shape}")
        known &= held["visible"].astype(bool)
    points = np.where(known[..., None], points, 0).astype(np.float32)
    frames = tuple(
        LabelledFrame(_safe(Path(name).stem), images / name, (LabelledPerson(points[at], known[at]),), name)
        for at, name in enumerate(names)
    )
    return LabelledSet(joints, frames, {one.sequence: (SequenceFrame(0, one.path),) for one in frames})


def read_deeplabcut(path: Path, joints: JointSet | None = None, images: Path | None = None) -> LabelledSet:
    """A DeepLabCut table: header rows `scorer`, (`individuals`,) `bodyparts`, `coords`; one row for each picture.

    A picture is looked for in `images`, or beside the table, by its name; where there is none of that ending, by
    another ending; one that is not there is found missing when its case is checked. The number in its name orders the
    sequence. Rows without any coordinate are left out.

    Args:
        path: The table.
        joints: Its joints in order; left out, they are named by the table, and mirrored by their names.
        images: Folder of the pictures.

    Raises:
        DataError: It is no such table.
        JointSetMismatch: It names other joints.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path.name} cannot be read: {error}", hint="Check data.file.") from error
    header = {row[0]: row for row in rows[:4] if row and row[0] in _HEADERS}
    if not {"scorer", "bodyparts", "coords"} <= set(header):
        raise DataError(f"{path.name} is no table of DeepLabCut: it lacks the rows scorer, bodyparts and coords")
    body = rows[len(header) :]
    first, named, columns = _deeplabcut_columns(path, header)
    try:
        own = JointSet(path.stem, named, mirrored_by_name(named))
    except ValueError as error:
        raise DataError(f"{path.name}: {error}") from error
    if joints is not None:
        require_same(joints, own, path.name)
    folder = images or path.parent
    found, sequence = [], folder.name
    for number, row in enumerate(body, start=len(header) + 1):
        if not any(row):
            continue
        if len(row) < len(header["coords"]):
            raise DataError(f"{path.name}, line {number}: {len(row)} cells; its header has {len(header['coords'])}")
        persons = tuple(_deeplabcut_persons(path, number, row, columns, named))
        if not persons:
            continue
        told = "/".join(cell for cell in row[:first] if cell).replace("\\", "/")  # a table of Windows has backslashes
        picture = _picture(folder, Path(told).name)
        digits = re.findall(r"\d+", picture.stem)
        found.append(
            LabelledFrame(_safe(picture.stem), picture, persons, sequence, int(digits[-1]) if digits else number)
        )
    found.sort(key=lambda one: one.number)
    frames = tuple(SequenceFrame(one.number, one.path) for one in found)
    return LabelledSet(joints or own, tuple(found), {sequence: frames})


def read_coco(path: Path, images: Path, joints: JointSet | None = None) -> LabelledSet:
    """COCO's or PoseTrack's JSON; images of one video (`vid_id` or `video_id`) are its sequence, by `frame_id`.

    Raises:
        DataError: It is no such file.
        JointSetMismatch: It names other joints, or an annotation has another number of them.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        pictures = {one["id"]: one for one in held["images"]}
        annotations = held["annotations"]
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check data.file.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name} is no JSON of images and annotations: {error}") from error
    known = joints_of_json(path, held, joints)
    persons: dict[Any, list[LabelledPerson]] = defaultdict(list)
    for at, one in enumerate(annotations):
        with _named(f"{path.name}: annotation {at}"):
            if one["image_id"] not in pictures:
                raise DataError(f"{path.name}: annotation {at} is of image {one['image_id']!r}, which is not listed")
            persons[one["image_id"]].append(_coco_person(path, one, known))
    frames, sequences = [], defaultdict(list)
    for key, image in pictures.items():
        with _named(f"{path.name}: image {key!r}"):
            told = str(image["file_name"]).replace("\\", "/")
            video = image.get("vid_id", image.get("video_id"))
            name = told if video is None else str(video)
            number = int(image.get("frame_id", key if isinstance(key, int) else 0))
        sequences[name].append(SequenceFrame(number, images / told))
        if key in persons:
            case = _safe(str(Path(told).with_suffix("")))
            frames.append(LabelledFrame(case, images / told, tuple(persons[key]), name, number))
    ordered = {name: tuple(sorted(members, key=lambda one: one.number)) for name, members in sequences.items()}
    return LabelledSet(known, tuple(frames), ordered)


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Says which entry of a file of others it was that has a key, a type or a length that nobody can use."""
    try:
        yield
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise DataError(f"{what} cannot be used: {type(error).__name__}: {error}") from error


def _deeplabcut_columns(
    path: Path, header: Mapping[str, Sequence[str]]
) -> tuple[int, tuple[str, ...], dict[str, dict[tuple[str, str], int]]]:
    """The first column of coordinates, the joints, and individual → (joint, axis) → column."""
    axes, parts = header["coords"], header["bodyparts"]
    who = header.get("individuals", header["scorer"])
    # Newer tables cut the path of a picture into three columns, of which two have no header.
    first = next((at for at, cell in enumerate(axes) if cell in ("x", "y")), len(axes))
    if first == len(axes) or not len(axes) == len(parts) == len(who):
        counts = ", ".join(f"{name} {len(row)}" for name, row in header.items())
        raise DataError(f"{path.name}: its header rows name no x and y, or have several lengths ({counts})")
    columns: dict[str, dict[tuple[str, str], int]] = defaultdict(dict)
    for at in range(first, len(axes)):
        if parts[at]:
            columns[who[at]][parts[at], axes[at]] = at
    return first, tuple(dict.fromkeys(part for part in parts[first:] if part)), columns


def _deeplabcut_persons(
    path: Path,
    line: int,
    row: Sequence[str],
    columns: Mapping[str, Mapping[tuple[str, str], int]],
    joints: Sequence[str],
) -> Iterator[LabelledPerson]:
    for name, places in columns.items():
        points = np.full((len(joints), 2), np.nan, np.float32)
        for at, joint in enumerate(joints):
            for axis, letter in enumerate("xy"):
                cell = row[places[joint, letter]] if (joint, letter) in places else ""
                try:
                    points[at, axis] = float(cell) if cell.strip() else math.nan
                except ValueError:
                    raise DataError(f"{path.name}, line {line}: {cell!r} of {joint} is no number") from None
        known: NDArray[np.bool_] = np.asarray(np.isfinite(points).all(-1))
        if known.any():
            # Of one joint among several animals nobody knows how large its animal is, so none is cut out around it.
            ignored = len(columns) > 1 and known.sum() < 2
            kept = np.where(known[:, None], points, 0).astype(np.float32)
            yield LabelledPerson(kept, known, ignored=ignored, track=name)


def _picture(folder: Path, name: str) -> Path:
    beside = [folder / f"{Path(name).stem}{ending}" for ending in sorted(PICTURE_ENDINGS)]
    return next((path for path in (folder / name, *beside) if path.is_file()), folder / name)


def _coco_person(path: Path, one: Mapping[str, Any], joints: JointSet) -> LabelledPerson:
    values = np.asarray(one.get("keypoints") or np.zeros(3 * len(joints)), np.float32)
    if values.size != 3 * len(joints):
        raise JointSetMismatch(
            f"{path.name}: annotation {one.get('id')} has {values.size} numbers, {joints.name} takes 3 × {len(joints)}",
            hint="Set data.joints to what the file holds.",
        )
    points = values.reshape(-1, 3)
    known: NDArray[np.bool_] = np.asarray((points[:, 2] > 0) & np.isfinite(points[:, :2]).all(-1))
    box = one.get("bbox")
    head = one.get("bbox_head")
    x, y, width, height = (float(value) for value in box) if box else (0.0, 0.0, 0.0, 0.0)
    boxed = width > 0 and height > 0 and all(map(math.isfinite, (x, y, width, height)))
    area = one.get("area")
    crowd = bool(one.get("iscrowd", 0)) or bool(one.get("ignore", 0)) or known.sum() < (1 if boxed else 2)
    return LabelledPerson(
        np.where(known[:, None], points[:, :2], 0).astype(np.float32),
        known,
        (x, y, width, height) if boxed else None,
        float(area) if area is not None else width * height if boxed else 0.0,
        _HEAD * math.hypot(float(head[2]), float(head[3])) if head else 0.0,
        crowd,
        "" if one.get("track_id") is None else str(one["track_id"]),
    )


def _safe(name: str) -> str:
    return _UNSAFE.sub("-", name).strip("-._") or "picture"
