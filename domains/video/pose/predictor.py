"""One trained network, ready to serve: pictures and videos in, the joints of every person of every frame out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.discovery import discover_videos
from domains.video.pose.boxes import Detector, FileBoxes, FoundBox, WholePicture, boxes_beside, with_boxes
from domains.video.pose.discovery import discover_pictures
from domains.video.pose.estimating import FrameClip, FramePose, PoseEstimator
from domains.video.pose.streaming import VideoPoses, write_video
from pipelines.errors import CaseError
from pipelines.pictures import read_picture
from pipelines.task import Item, Predictor, Written

__all__ = ["LoadedFrame", "LoadedVideo", "PosePredictor", "PoseResult"]


@dataclass(frozen=True, eq=False)
class LoadedFrame:
    """A picture with its neighbours, read, and who is looked at."""

    clip: FrameClip
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class LoadedVideo:
    """A video that is read while it is looked at."""

    item: Item
    detector: Detector


@dataclass(frozen=True, eq=False)
class PoseResult:
    """What was seen in a picture.

    Attributes:
        pose: Its persons.
        picture: As read, for pictures of the report.
        seconds: Time of each step.
    """

    pose: FramePose
    picture: NDArray[np.uint8]
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class KnownFrame:
    """A case: the pictures of its clip, and where its persons are; None where the whole picture is looked at."""

    clip: tuple[Path, ...]
    boxes: tuple[FoundBox, ...] | None = None


class PosePredictor(Predictor[LoadedFrame | LoadedVideo, PoseResult | VideoPoses]):
    """Serves a network to pictures and videos.

    Args:
        estimator: The network.
        step: Frames from one of a clip to the next.
        block: Frames of a video that are held together.
        overlay: Whether a video with the skeletons drawn in is written.
        known: Case id → what is known of it.
    """

    def __init__(
        self,
        estimator: PoseEstimator,
        *,
        step: int = 1,
        block: int = 16,
        overlay: bool = True,
        known: Mapping[str, KnownFrame] | None = None,
    ) -> None:
        self._estimator, self._step, self._block, self._overlay = estimator, step, block, overlay
        self._known = known or {}

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The pictures and videos in files, folders and globs, each with the file of boxes beside it."""
        found = [*discover_pictures(inputs), *discover_videos(_not_pictures(inputs))]
        return [replace(item, paths=with_boxes(item.paths[0])) if item.paths else item for item in found]

    def read(self, item: Item) -> LoadedFrame | LoadedVideo:
        """Reads a picture with its neighbours, or makes a video ready. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        if item.kind == "video":
            return LoadedVideo(item, boxes_beside(item.paths[0], item.item_id))
        started = time.perf_counter()
        frames = self._estimator.given.frames
        known = self._known.get(item.item_id)
        paths = known.clip if known else (item.paths[0],) * frames
        held = {path: read_picture(path, item.item_id) for path in dict.fromkeys(paths)}
        pictures = [held[path] for path in paths]
        picture = pictures[len(pictures) // 2]
        if len({one.shape for one in pictures}) > 1:
            raise CaseError(item.item_id, "frames of its clip have several sizes", hint="Set input.frames to 1.")
        return LoadedFrame(
            FrameClip(pictures, self._boxes(item, known, picture)), {"read": time.perf_counter() - started}
        )

    def _boxes(self, item: Item, known: KnownFrame | None, picture: NDArray[np.uint8]) -> Sequence[FoundBox]:
        if known is None:
            detector = boxes_beside(item.paths[0], item.item_id)
            if isinstance(detector, FileBoxes):
                detector.require_frames(1)
            return detector(picture, 0)
        return WholePicture()(picture, 0) if known.boxes is None else known.boxes

    def infer(self, loaded: LoadedFrame | LoadedVideo) -> PoseResult | VideoPoses:
        """The joints of all persons, together in one batch; of a video, block after block into a spooled table."""
        if isinstance(loaded, LoadedVideo):
            return VideoPoses.of(loaded.item, loaded.detector, self._estimator, step=self._step, block=self._block)
        started = time.perf_counter()
        (pose,) = self._estimator([loaded.clip])
        seconds = {**loaded.seconds, "infer": time.perf_counter() - started}
        middle = loaded.clip.pictures[len(loaded.clip.pictures) // 2]
        return PoseResult(pose, middle, seconds)

    def write(self, item: Item, result: PoseResult | VideoPoses, folder: Path) -> Written:
        """A picture leaves `ITEM.json`, a video `ITEM.parquet`, `ITEM.json` and, if asked for, `ITEM.overlay.mp4`."""
        folder.mkdir(parents=True, exist_ok=True)
        joints = self._estimator.joints
        if isinstance(result, VideoPoses):
            return write_video(item, result, joints, folder, overlay=self._overlay)
        summary = {
            "persons": len(result.pose.points),
            "score": _mean(result.pose.sureness),
            "seconds": {name: round(value, 4) for name, value in result.seconds.items()},
        }
        told = {
            "item": item.item_id,
            "joints": list(joints.joints),
            "size": list(result.picture.shape[:2]),
            "persons": list(told_persons(result.pose, joints.joints)),
        }
        file = folder / f"{item.item_id}.json"
        file.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
        return Written((file,), summary)


def told_persons(pose: FramePose, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Each person as plain values: box, and `[x, y, score]` and `deviation` of each joint that has them."""
    for person, found in enumerate(pose.boxes):
        points, deviations, scores = pose.points[person], pose.deviations[person], pose.scores[person]
        places: list[int] = np.flatnonzero(pose.told[person]).tolist()
        told: dict[str, Any] = {
            "box": [round(value, 2) for value in found.box],
            "score": round(float(pose.sureness[person]), 4),
        }
        if found.track:
            told["track"] = found.track
        told["keypoints"] = {
            names[at]: [*(round(float(value), 2) for value in points[at]), round(float(scores[at]), 4)] for at in places
        }
        if np.isfinite(deviations[places]).all():
            told["deviation"] = {names[at]: round(float(deviations[at]), 2) for at in places}
        yield told


def _mean(scores: NDArray[np.float32]) -> float | None:
    return round(float(scores.mean()), 4) if scores.size else None


def _not_pictures(inputs: Sequence[Path]) -> list[Path]:
    from domains.video.pose.discovery import only_pictures

    return [given for given in inputs if not only_pictures(given)]
