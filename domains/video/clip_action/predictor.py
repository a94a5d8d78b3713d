"""One trained network, ready to serve: a video in, probabilities of actions out, for the whole and over time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domains.video.clip_action.augment import ClipChange, cut_of
from domains.video.clip_action.clips import Footage, FrameStore
from domains.video.clip_action.features import FeatureStore, shot_features
from domains.video.clip_action.network import ClipModel
from domains.video.clip_action.plan import ClipPlan
from domains.video.clip_action.poses import PoseReader, PoseTrack
from domains.video.clip_action.preparation import Preparation, Shot
from domains.video.clip_action.settings import InferenceSettings
from domains.video.clip_action.skeleton_files import SkeletonFiles
from domains.video.clip_action.windows import stream_windows
from domains.video.clip_action.writing import write_prediction
from domains.video.decoding import open_video
from domains.video.discovery import discover_videos
from pipelines.errors import CaseError
from pipelines.task import Item, Predictor, Written

__all__ = ["ClipPrediction", "ClipPredictor", "LoadedVideo"]


class _Told(NamedTuple):
    """What is known of the clips of a video."""

    chances: NDArray[np.float64]
    """`(clips, classes)`."""
    spans: NDArray[np.float64]
    """`(clips, 2)`."""
    numbers: NDArray[np.int64]
    """Frames `(clips, T)`."""
    attention: NDArray[np.float32]
    """`(clips, T, h, w)`."""
    joints: NDArray[np.float32] | None
    """`(clips, T, P J)`, where poses are looked at."""


_Decided = tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float32] | None]
"""Probabilities `(V, classes)`, attention `(V, T, h, w)`, and weights of joints `(V, T, P J)`."""
_NO_POSES = "Estimate its poses (`pulvinar predict` of a pose model), and say where they are: --set pose.folder=FOLDER."
_LONG = 1.5
"""Videos longer than this times the longest training video are looked at in windows."""


@dataclass(frozen=True, eq=False)
class LoadedVideo:
    """A video that was opened: its clips, features of them that were made before, or neither where it is streamed.

    Attributes:
        case_id: What errors name.
        path: The file.
        footage: What it holds; its frames are not among it.
        shot: Its fixed clips.
        features: float16 `(2, V, S, T, h, w, C)`.
        track: Poses of all its frames, where the network looks at them.
        seconds: Time of each step.
    """

    case_id: str
    path: Path
    footage: Footage
    shot: Shot | None
    features: Tensor | None
    track: PoseTrack | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class ClipPrediction:
    """What a network says of one video.

    Attributes:
        probabilities: float64 `(classes,)`, the mean over its clips.
        parts: float64 `(clips, classes)`.
        spans: float64 `(clips, 2)`, first and last second of each clip; of a window, its edges.
        windowed: Whether the clips are windows, one after another.
        attention: float32 `(T, h, w)` of the clip that is surest of the class, summing to one.
        times: float64 `(T,)`, seconds of the frames of that clip.
        frames: Frames of the video.
        path: The file, for pictures.
        cut: Left, top, right and bottom of what was looked at, as shares of the picture.
        joints: float32 `(T, P, J)`, how much each joint of each person counted in that clip, summing to one; None where
            no poses are looked at.
        pose: float32 `(T, P, J, 3)`, column and row as shares of the picture, and confidence, in the same frames.
        track: Poses of all frames, for videos that are drawn.
        seconds: Time of each step.
    """

    probabilities: NDArray[np.float64]
    parts: NDArray[np.float64]
    spans: NDArray[np.float64]
    windowed: bool
    attention: NDArray[np.float32]
    times: NDArray[np.float64]
    frames: int
    path: Path
    cut: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    joints: NDArray[np.float32] | None = None
    pose: NDArray[np.float32] | None = None
    track: PoseTrack | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


class ClipPredictor(Predictor[LoadedVideo, ClipPrediction]):
    """Serves a network of clips.

    Args:
        network: Looks at clips.
        plan: Classes and lengths of the training videos.
        preparation: Makes clips.
        settings: How videos are served.
        device: Where the network runs.
        precision: float32, bfloat16 or float16.
        store: Where frames of cases are held.
        features: Where features of a frozen encoder are kept.
        poses: Reads the poses that the network looks at; None where it looks at none.
    """

    def __init__(
        self,
        network: ClipModel,
        plan: ClipPlan,
        preparation: Preparation,
        settings: InferenceSettings,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        store: FrameStore | None = None,
        features: FeatureStore | None = None,
        poses: PoseReader | None = None,
    ) -> None:
        self._network = network.to(device).eval()
        self._plan, self._preparation, self._settings = plan, preparation, settings
        self._device, self._precision = device, precision
        self._store = store or FrameStore(preparation.given, limit=0)
        self._features, self._poses = features, poses

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The videos in files, folders and globs, each with its skeletons where the network looks at poses."""
        found = discover_videos(inputs)
        if self._poses is None:
            return found
        files = SkeletonFiles(self._poses.settings.folder)
        return [item if item.problem else _with_skeleton(item, files) for item in found]

    def read(self, item: Item) -> LoadedVideo:
        """Opens a video and decodes its clips; a long one is decoded later, window by window. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        path = item.paths[0]
        footage = self._store.look(item.item_id, path)
        track = self._track(item, footage)
        features = None if self._features is None or self._streams(footage) else self._features.kept(path)
        shot = None
        if not self._streams(footage) and features is None:
            shot = self._preparation.views(self._store.open(item.item_id, path))
        return LoadedVideo(item.item_id, path, footage, shot, features, track, {"read": time.perf_counter() - started})

    def infer(self, loaded: LoadedVideo) -> ClipPrediction:
        """Probabilities of the video and of its clips. Raises `CaseError` where a streamed frame cannot be decoded."""
        started = time.perf_counter()
        was_training = self._network.training  # A caller may train the same network in between.
        self._network.eval()
        try:
            if self._streams(loaded.footage):
                told = self._of_windows(loaded)
            else:
                told = self._of_views(loaded)
        finally:
            self._network.train(was_training)
        probabilities = told.chances.mean(0)
        surest = int(told.chances[:, int(probabilities.argmax())].argmax())
        numbers = told.numbers[surest]
        pose = None if loaded.track is None else loaded.track.at(numbers)  # (T, P, J, 3)
        joints = None if pose is None or told.joints is None else told.joints[surest].reshape(pose.shape[:3])
        return ClipPrediction(
            probabilities,
            told.chances,
            told.spans,
            self._streams(loaded.footage),
            told.attention[surest],
            loaded.footage.info.times[numbers],
            loaded.footage.info.frames,
            loaded.path,
            self._cut(loaded.footage),
            joints,
            pose,
            loaded.track,
            {**loaded.seconds, "infer": time.perf_counter() - started},
        )

    def write(self, item: Item, result: ClipPrediction, folder: Path) -> Written:
        """Writes `ITEM.json`, `ITEM.windows.parquet`, and maybe `ITEM.timeline.mp4` and `ITEM.joints.csv`."""
        timeline, joints = self._settings.timeline, self._plan.joints
        return write_prediction(item.item_id, result, self._plan.classes, folder, timeline=timeline, joints=joints)

    def _track(self, item: Item, footage: Footage) -> PoseTrack | None:
        if self._poses is None:
            return None
        if len(item.paths) < 2:
            item = _with_skeleton(item, SkeletonFiles(self._poses.settings.folder))
        if item.problem:
            raise CaseError(item.item_id, item.problem, hint=_NO_POSES)
        told = item.detail.get("clip", "")
        names = (told,) if told else (item.paths[0].stem, item.item_id)
        return self._poses.of(item.item_id, item.paths[1], names, footage.info)

    def _cut(self, footage: Footage) -> tuple[float, float, float, float]:
        """What of a picture is looked at: left, top, right, bottom as shares."""
        rows, columns = footage.size
        top, left, height, width = cut_of(footage.size, self._preparation.given.size)
        return left / columns, top / rows, (left + width) / columns, (top + height) / rows

    def _streams(self, footage: Footage) -> bool:
        longest = max(self._plan.longest_seconds, self._window_seconds)
        return self._settings.windows == "auto" and float(footage.info.times[-1]) > _LONG * longest

    @property
    def _window_seconds(self) -> float:
        return self._settings.window_seconds or self._plan.median_seconds

    def _of_views(self, loaded: LoadedVideo) -> _Told:
        features = loaded.features
        if features is None:
            assert loaded.shot is not None
            features = shot_features(self._network, loaded.shot, self._device, self._precision)
            if self._features is not None:
                self._features.keep(loaded.path, features)
        numbers = np.stack(self._preparation.view_numbers(loaded.case_id, loaded.footage.info))  # (V, T)
        numbers = loaded.footage.shown(numbers)
        chances, attention, joints = self._decide(features, self._pose(loaded, numbers))
        times = loaded.footage.info.times[numbers]
        return _Told(chances, np.stack([times.min(1), times.max(1)], 1), numbers, attention, joints)

    def _pose(self, loaded: LoadedVideo, numbers: NDArray[np.int64]) -> NDArray[np.float32] | None:
        """Poses `(V, T, P J, 3)` in frames of clips; None where the network looks at none."""
        if loaded.track is None:
            return None
        return self._preparation.pose(loaded.track, numbers, loaded.footage.size, ClipChange())

    def _of_windows(self, loaded: LoadedVideo) -> _Told:
        size = loaded.footage.size
        told, spans, numbers = [], [], []
        with open_video(loaded.path, case_id=loaded.case_id, size=size) as video:
            windows = stream_windows(
                video, self._preparation, seconds=self._window_seconds, overlap=self._settings.overlap
            )
            for window in windows:
                features = shot_features(self._network, window.shot, self._device, self._precision)
                told.append(self._decide(features, self._pose(loaded, window.numbers[None])))
                spans.append((window.start, window.stop))
                numbers.append(window.numbers)
        chances, attention = (np.concatenate([one[part] for one in told]) for part in (0, 1))
        of_joints = [one[2] for one in told if one[2] is not None]
        joints = np.concatenate(of_joints) if of_joints else None
        return _Told(chances, np.array(spans), np.stack(numbers), attention, joints)

    def _decide(self, features: Tensor, pose: NDArray[np.float32] | None) -> _Decided:
        """What the network says of features `(2, V, S, T, h, w, C)` and poses `(V, T, P J, 3)`."""
        sides = [(features[0], pose)]
        if self._settings.mirror:
            sides.append((features[1], None if pose is None else self._preparation.mirrored(pose)))
        outputs = []
        enabled = self._precision != torch.float32
        with torch.inference_mode(), torch.autocast(self._device.type, self._precision, enabled=enabled):
            for seen, joints in sides:
                given = {} if joints is None else {"pose": torch.from_numpy(joints).to(self._device)}
                outputs.append(self._network(features=seen.to(self._device).float(), **given))
        chances = torch.stack([one.logits.double().softmax(-1).cpu() for one in outputs]).mean(0)
        weights = None if pose is None else outputs[0].joints.float().cpu().numpy()
        return chances.numpy(), outputs[0].attention.float().cpu().numpy(), weights


def _with_skeleton(item: Item, files: SkeletonFiles) -> Item:
    """The item with the file of its poses, or with the reason why there is none."""
    found, problem = files.of(item.paths[0])
    return replace(item, problem=problem) if found is None else replace(item, paths=(item.paths[0], found))
