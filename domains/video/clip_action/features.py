"""Features that a frozen encoder makes of videos: computed once, kept on disk by what made them and of what.

They are found again by the video's content and by everything that they depend on, so that folds, runs and resumed runs
share them. They lie in the cache folder of `pipelines.digests` and can be deleted at any time.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domains.video.clip_action.clips import FrameStore
from domains.video.clip_action.network import ClipModel
from domains.video.clip_action.preparation import Preparation, Shot
from pipelines.digests import cache_folder, file_digests
from pipelines.runs import write_atomically

__all__ = ["FeatureStore", "shot_features"]

_FORMAT = 1
_log = logging.getLogger(__name__)


class FeatureStore:
    """Features of the fixed clips of videos, and of their mirror images.

    Args:
        model: Whose frozen encoder looks.
        frames: Where frames come from.
        preparation: Makes clips.
        how: Everything that features depend on, as plain values.
        device: Where the encoder runs.
        precision: float32, bfloat16 or float16.
        limit: Bytes held in memory; the others are read from disk each time.
    """

    def __init__(
        self,
        model: ClipModel,
        frames: FrameStore,
        preparation: Preparation,
        *,
        how: Mapping[str, Any],
        device: torch.device,
        precision: torch.dtype = torch.float32,
        limit: int,
    ) -> None:
        self._model, self._frames, self._preparation = model.to(device), frames, preparation
        self._device, self._precision = device, precision
        told = json.dumps({**how, "format": _FORMAT, "precision": str(precision)}, sort_keys=True)
        self.folder = cache_folder() / "clip-features" / hashlib.sha256(told.encode()).hexdigest()[:16]
        self._free = limit
        self._held: dict[Path, Tensor] = {}
        self._lock = threading.Lock()

    def of(self, case_id: str, path: Path) -> Tensor:
        """float16 `(2, V, S, T, h, w, C)`, on the CPU: as it is and mirrored. Raises `CaseError`."""
        found = self.kept(path)
        if found is None:
            shot = self._preparation.views(self._frames.open(case_id, path))
            found = shot_features(self._model, shot, self._device, self._precision)
            self.keep(path, found)
        return found

    def kept(self, path: Path) -> Tensor | None:
        """Features that were made before; None where those of a stream are not there."""
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        if path in self._held or not path.is_file():
            return self._held.get(path)
        files = self._files(path)
        if not all(file.is_file() for file in files):
            return None
        try:
            read = torch.stack([load_file(file)["features"] for file in files], 2)
        except (SafetensorError, KeyError, OSError) as error:
            _log.warning("kept features are made again: %s", error)
            return None
        self._hold(path, read)
        return read

    def keep(self, path: Path, features: Tensor) -> None:
        """Keeps features of a video, in memory and on disk, a file for each stream."""
        from safetensors.torch import save

        self._hold(path, features)
        for file, of_stream in zip(self._files(path), features.unbind(2), strict=True):
            try:
                file.parent.mkdir(parents=True, exist_ok=True)
                write_atomically(file, save({"features": of_stream.contiguous()}))
            except OSError as error:
                _log.warning("features of %s are not kept: %s", path.stem, error)

    def _files(self, path: Path) -> list[Path]:
        digest = file_digests([path])[path][:32]
        return [self.folder / f"{digest}.{stream}.safetensors" for stream in self._model.streams]

    def _hold(self, path: Path, features: Tensor) -> None:
        with self._lock:
            if path not in self._held and features.nbytes <= self._free:
                self._held[path] = features
                self._free -= features.nbytes

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def shot_features(model: ClipModel, shot: Shot, device: torch.device, precision: torch.dtype) -> Tensor:
    """float16 `(2, V, S, T, h, w, C)` on the CPU: features of clips as they are, and mirrored."""
    made = []
    training = model.training
    model.eval()
    try:
        with torch.no_grad(), torch.autocast(device.type, precision, enabled=precision != torch.float32):
            for mirrored in (False, True):
                frames, partners = (_on(pixels, device, mirrored=mirrored) for pixels in (shot.frames, shot.partners))
                made.append(model.features(frames, partners).half().cpu())
    finally:
        model.train(training)
    return torch.stack(made)


def _on(pixels: NDArray[np.uint8] | None, device: torch.device, *, mirrored: bool) -> Any:
    """Pixels on a device, left and right changed where asked for; None stays None."""
    if pixels is None:
        return None
    moved = torch.from_numpy(pixels).to(device, non_blocking=True)
    return moved.flip(3) if mirrored else moved
