"""Skeletons in COCO's JSON of keypoints, and in PoseTrack's, which adds videos and tracks.

    images: id, file_name [, vid_id or video_id, frame_id]     annotations: image_id, keypoints [, track_id]

Images of one video make a sequence and tracks its persons; an image without a video is a sequence of one frame.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from domains.video.skeletons.joints import JointSet, JointSetMismatch, known_joints, require_same
from domains.video.skeletons.sequences import SkeletonSequence, SkeletonSet, known_size, seen_only
from pipelines.errors import DataError

__all__ = ["joints_of_json", "read_keypoint_json"]


def read_keypoint_json(path: Path, joints: JointSet | None = None) -> SkeletonSet:
    """The annotated persons of a file.

    Args:
        path: The JSON.
        joints: Which joints it holds; left out, its category of persons says so.

    Raises:
        JointSetMismatch: Its category names other joints, or an annotation has another number.
        DataError: It is no such file, or persons of a video are not told apart.
    """
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        images = {one["id"]: one for one in held["images"]}
        annotations = [dict(one) for one in held["annotations"]]
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror or error}", hint="Check the path.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path.name} is no JSON of images and annotations: {error}") from error
    if len(images) < len(held["images"]):
        raise DataError(f"{path.name}: {len(held['images'])} images have {len(images)} numbers; each needs its own id")
    known = joints_of_json(path, held, joints)
    by_image: dict[Any, list[Mapping[str, Any]]] = defaultdict(list)
    for one in annotations:
        if one.get("image_id") not in images:
            raise DataError(f"{path.name}: an annotation is of image {one.get('image_id')!r}, which is not listed")
        if one.get("keypoints"):
            by_image[one["image_id"]].append(one)
    videos: dict[str, list[Any]] = defaultdict(list)
    for number, name in _names(images).items():
        videos[name].append(number)
    for members in videos.values():
        members.sort(key=lambda number: (images[number].get("frame_id", 0), str(images[number].get("file_name", ""))))
    found = [
        _sequence(path, name, members, by_image, known, _size([images[number] for number in members]))
        for name, members in videos.items()
    ]
    return SkeletonSet(known, tuple(one for one in found if one is not None))


def joints_of_json(path: Path, held: Mapping[str, Any], joints: JointSet | None) -> JointSet:
    """The joints that the categories of a file name. Raises `DataError`, and `JointSetMismatch` for other joints."""
    named = [tuple(one["keypoints"]) for one in held.get("categories", ()) if one.get("keypoints")]
    if len(set(named)) > 1:
        raise DataError(f"{path.name} has categories of different joints: {len(set(named))} kinds")
    if not named:
        if joints is None:
            raise DataError(f"{path.name} does not say which joints it holds", hint="Name them: --joints coco17, say.")
        return joints
    own = known_joints(named[0], path.stem)
    if joints is not None:
        require_same(joints, own, path.name)
        return joints
    return own


def _sequence(
    path: Path,
    name: str,
    members: Sequence[Any],
    by_image: Mapping[Any, Sequence[Mapping[str, Any]]],
    joints: JointSet,
    size: tuple[int, int] | None,
) -> SkeletonSequence | None:
    """Persons `(P, T, J, 2)` of the images of a video; None where nobody was annotated."""
    persons: dict[Any, int] = {}
    places: dict[tuple[int, int], Any] = {}
    for frame, image in enumerate(members):
        for number, one in enumerate(by_image.get(image, ())):
            track = one.get("track_id", number if len(members) == 1 else None)
            if track is None and len(by_image[image]) > 1:
                raise DataError(
                    f"{path.name}: image {image} of video {name} shows {len(by_image[image])} persons without track_id",
                    hint="Persons of a video must be told apart: track them, and write their track_id.",
                )
            person = persons.setdefault(track, len(persons))
            if (person, frame) in places:
                raise DataError(f"{path.name}: track {track} stands twice in image {image}")
            places[person, frame] = _points(path, one, joints)
    if not places:
        return None
    points = np.full((len(persons), len(members), len(joints), 3), np.nan, np.float32)
    points[..., 2] = 0
    for place, values in places.items():
        points[place] = values
    return SkeletonSequence(name, *seen_only(points[..., :2], points[..., 2]), group=name, size=size)


def _names(images: Mapping[Any, Mapping[str, Any]]) -> dict[Any, str]:
    """Image → the video that it is of; one of no video is named after its file, by folders too where names repeat."""
    told = {number: image.get("vid_id", image.get("video_id")) for number, image in images.items()}
    files = {
        number: PurePosixPath(str(images[number].get("file_name", number))).with_suffix("")
        for number, video in told.items()
        if video is None
    }
    stems = Counter(file.name for file in files.values())
    return {
        number: str(video)
        if video is not None
        else files[number].name
        if stems[files[number].name] == 1
        else str(files[number])
        for number, video in told.items()
    }


def _size(images: Sequence[Mapping[str, Any]]) -> tuple[int, int] | None:
    """Height and width where all pictures of a video say the same."""
    told = {known_size(one.get("height"), one.get("width")) for one in images}
    return told.pop() if len(told) == 1 else None


def _points(path: Path, one: Mapping[str, Any], joints: JointSet) -> np.ndarray[Any, Any]:
    try:
        values = np.asarray(one["keypoints"], np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path.name}: annotation {one.get('id')} has keypoints that are no numbers: {error}"
        ) from error
    if values.size != 3 * len(joints):
        raise JointSetMismatch(
            f"{path.name}: annotation {one.get('id')} has {values.size} numbers, {joints.name} takes 3 × {len(joints)}",
            hint="Name the joints that the file holds.",
        )
    points: np.ndarray[Any, Any] = values.reshape(-1, 3)
    # COCO's visibility is 0, 1 (hidden) or 2 (seen); results have a score in its place, which stays as it is.
    points[:, 2] = np.minimum(points[:, 2], 1.0)
    return points
