"""One trained network, ready to serve: a video in, probabilities of actions out, for the whole and over time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domains.video.clip_action.clips import Footage, FrameStore, frame_size
from domains.video.clip_action.features import FeatureStore, shot_features
from domains.video.clip_action.network import ClipModel
from domains.video.clip_action.plan import ClipPlan
from domains.video.clip_action.preparation import Preparation, Shot
from domains.video.clip_action.settings import InferenceSettings
from domains.video.clip_action.windows import stream_windows
from domains.video.clip_action.writing import write_prediction
from domains.video.decoding import open_video
from domains.video.discovery import discover_videos
from pipelines.errors import CaseError
from pipelines.task import Item, Predictor, Written

__all__ = ["ClipPrediction", "ClipPredictor", "LoadedVideo"]

_Told = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float32]]
"""Probabilities `(clips, classes)`, spans `(clips, 2)`, times `(clips, T)`, attention `(clips, T, h, w)`."""
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
        seconds: Time of each step.
    """

    case_id: str
    path: Path
    footage: Footage
    shot: Shot | None
    features: Tensor | None
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
    ) -> None:
        self._network = network.to(device).eval()
        self._plan, self._preparation, self._settings = plan, preparation, settings
        self._device, self._precision = device, precision
        self._store = store or FrameStore(preparation.given, limit=0)
        self._features = features

    def discover(self, inputs: Sequence[Path]) -> list[Item]:
        """The videos in files, folders and globs."""
        return discover_videos(inputs)

    def read(self, item: Item) -> LoadedVideo:
        """Opens a video and decodes its clips; a long one is decoded later, window by window. Raises `CaseError`."""
        if item.problem:
            raise CaseError(item.item_id, item.problem)
        started = time.perf_counter()
        path = item.paths[0]
        footage = self._look(item.item_id, path)
        features = None if self._features is None or self._streams(footage) else self._features.kept(path)
        shot = None
        if not self._streams(footage) and features is None:
            shot = self._preparation.views(self._store.open(item.item_id, path))
        return LoadedVideo(item.item_id, path, footage, shot, features, {"read": time.perf_counter() - started})

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
        chances, spans, times, attention = told
        probabilities = chances.mean(0)
        surest = int(chances[:, int(probabilities.argmax())].argmax())
        return ClipPrediction(
            probabilities,
            chances,
            spans,
            self._streams(loaded.footage),
            attention[surest],
            times[surest],
            loaded.footage.info.frames,
            loaded.path,
            {**loaded.seconds, "infer": time.perf_counter() - started},
        )

    def write(self, item: Item, result: ClipPrediction, folder: Path) -> Written:
        """Writes `ITEM.json`, `ITEM.windows.parquet` and, of a long video, `ITEM.timeline.mp4`."""
        return write_prediction(item.item_id, result, self._plan.classes, folder, timeline=self._settings.timeline)

    def _look(self, case_id: str, path: Path) -> Footage:
        with open_video(path, case_id=case_id, backend="pyav") as video:
            info = video.info
        return Footage(case_id, path, info, frame_size(info, self._preparation.given), np.arange(info.frames))

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
        chances, attention = self._decide(features)
        times = loaded.footage.info.times[
            np.stack(self._preparation.view_numbers(loaded.case_id, loaded.footage.info))
        ]  # (V, T)
        return chances, np.stack([times.min(1), times.max(1)], 1), times, attention

    def _of_windows(self, loaded: LoadedVideo) -> _Told:
        size = loaded.footage.size
        chances, spans, times, attention = [], [], [], []
        with open_video(loaded.path, case_id=loaded.case_id, size=size) as video:
            windows = stream_windows(
                video, self._preparation, seconds=self._window_seconds, overlap=self._settings.overlap
            )
            for window in windows:
                features = shot_features(self._network, window.shot, self._device, self._precision)
                of_window, weights = self._decide(features)
                chances.append(of_window[0])
                spans.append((window.start, window.stop))
                times.append(window.shot.times[0])
                attention.append(weights[0])
        return np.stack(chances), np.array(spans), np.stack(times), np.stack(attention)

    def _decide(self, features: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Probabilities `(V, classes)` and attention `(V, T, h, w)` of features `(2, V, S, T, h, w, C)`."""
        sides = features if self._settings.mirror else features[:1]
        enabled = self._precision != torch.float32
        chances = []
        attention: Tensor | None = None
        with torch.inference_mode(), torch.autocast(self._device.type, self._precision, enabled=enabled):
            for side in sides:
                output = self._network(features=side.to(self._device).float())
                chances.append(output.logits.double().softmax(-1).cpu())
                attention = output.attention if attention is None else attention
        assert attention is not None
        return torch.stack(chances).mean(0).numpy(), attention.float().cpu().numpy()
