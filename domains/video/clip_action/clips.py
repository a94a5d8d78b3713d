"""From a video to clips: which frames, decoded once, scaled once, held as bytes within a limit."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.settings import ClipSettings, InputSettings
from domains.video.decoding import VideoInfo, open_video
from domains.video.sampling import at_rate, dense, uniform
from pipelines.cases import Case
from pipelines.errors import CaseError, DataError

__all__ = ["Footage", "FrameStore", "clip_frames", "frame_size", "later_frames", "view_frames"]

Pixels = NDArray[np.uint8]
Indices = NDArray[np.int64]


def clip_frames(info: VideoInfo, clip: ClipSettings, *, rng: np.random.Generator) -> Indices:
    """Numbers `(T,)` of the frames of a clip drawn from a video. Raises `DataError` where the video is too short."""
    if clip.sampling == "uniform":
        return uniform(info.frames, clip.frames, rng=rng, short=clip.short)
    if clip.sampling == "dense":
        return dense(info.frames, clip.frames, stride=clip.stride, rng=rng, short=clip.short)
    return at_rate(info.times, clip.frames, clip.rate, rng=rng, short=clip.short)


def view_frames(info: VideoInfo, clip: ClipSettings) -> list[Indices]:
    """The fixed clips of a video, `clip.views` of them, spread over all of it. Raises `DataError`."""
    from domains.video.sampling import views

    if clip.sampling == "dense":
        return views(info.frames, clip.frames, clip.views, stride=clip.stride, short=clip.short)
    made = []
    for number in range(clip.views):
        if clip.sampling == "uniform":
            made.append(uniform(info.frames, clip.frames, short=clip.short, place=(number + 0.5) / clip.views))
        else:
            place = 0.5 if clip.views == 1 else number / (clip.views - 1)
            made.append(at_rate(info.times, clip.frames, clip.rate, short=clip.short, place=place))
    return made


def later_frames(times: NDArray[np.float64], indices: Indices, gap: float) -> Indices:
    """For each frame the one nearest to `gap` seconds later; at the end of the video, the one so much earlier.

    What differs between the two is the same either way. A video of one frame gives that frame.
    """
    last, moments = len(times) - 1, times[indices]
    later = np.maximum(_nearest(times, moments + gap), indices + 1)
    earlier = np.minimum(_nearest(times, moments - gap), indices - 1)
    beyond = (moments + gap / 2 > times[last]) | (later > last)
    return np.clip(np.where(beyond, earlier, later), 0, last)


def frame_size(info: VideoInfo, given: InputSettings) -> tuple[int, int]:
    """Height and width that the decoder scales frames to: the input's, or as much as covers it and keeps the shape."""
    height, width = given.size
    if given.fit == "stretch":
        return height, width
    scale = max(height / info.height, width / info.width)
    return max(height, round(info.height * scale)), max(width, round(info.width * scale))


@dataclass(frozen=True, eq=False)
class Footage:
    """A video of which frames can be had.

    Attributes:
        case_id: What errors name.
        path: The file.
        info: What it holds.
        size: Height and width of its frames here.
        numbers: Frames that may be asked for, increasing; a number between two stands for the nearer one.
        held: uint8 `(len(numbers), H, W, 3)`, or None where they are decoded each time.
    """

    case_id: str
    path: Path
    info: VideoInfo
    size: tuple[int, int]
    numbers: Indices
    held: Pixels | None = None

    def shown(self, indices: Indices) -> Indices:
        """Numbers of the frames that stand for those that are asked for."""
        return self.numbers[_nearest(self.numbers, indices)]

    def frames(self, indices: Indices) -> Pixels:
        """uint8 `(T, H, W, 3)`. Raises `CaseError` where one cannot be decoded."""
        places = _nearest(self.numbers, indices)
        if self.held is not None:
            return self.held[places]
        with open_video(self.path, case_id=self.case_id, size=self.size) as video:
            return video.read(self.numbers[places].tolist()).images


class FrameStore:
    """Frames of videos, decoded and scaled once, in memory as far as a limit allows.

    Args:
        given: How frames are scaled, and how many are kept.
        limit: Bytes; what does not fit is decoded each time it is asked for.
    """

    def __init__(self, given: InputSettings, *, limit: int) -> None:
        self.given = given
        self._free = limit
        self._held: dict[tuple[str, Path], Footage] = {}
        self._lock = threading.Lock()

    def __getitem__(self, case: Case) -> Footage:
        return self.open(case.case_id, case.paths["video"])

    def open(self, case_id: str, path: Path) -> Footage:
        """A video. Raises `CaseError` where it cannot be read."""
        found = self._held.get((case_id, path))
        if found is not None:
            return found
        made = self.look(case_id, path)
        needed = len(made.numbers) * made.size[0] * made.size[1] * 3
        with self._lock:
            fits = needed <= self._free and (case_id, path) not in self._held
            if fits:
                self._free -= needed
        if fits:
            try:
                made = Footage(case_id, path, made.info, made.size, made.numbers, made.frames(made.numbers))
            except CaseError:
                # A later frame is damaged: those that are asked for may be none of the damaged ones.
                with self._lock:
                    self._free += needed
                return made
            self._held[case_id, path] = made
        return made

    def look(self, case_id: str, path: Path) -> Footage:
        """What a video holds; none of its frames is decoded. Raises `CaseError`."""
        with open_video(path, case_id=case_id, backend="pyav") as video:
            info = video.info
        numbers = np.arange(info.frames, dtype=np.int64)
        if self.given.rate is not None and info.frames > 1 and info.rate > self.given.rate:
            moments = np.arange(0, info.times[-1] + 1e-9, 1 / self.given.rate)
            numbers = np.unique(np.minimum(np.searchsorted(info.times, moments), info.frames - 1)).astype(np.int64)
        return Footage(case_id, path, info, frame_size(info, self.given), numbers)

    def warm(self, cases: Sequence[Case], *, threads: int = 2) -> None:
        """Decodes videos until memory is used up, so that processes that are started later share them."""

        def read(case: Case) -> None:
            if self._free > 0:
                try:
                    self[case]
                except (CaseError, DataError):
                    return  # It is reported when it is drawn.

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(read, cases))

    def __getstate__(self) -> dict[str, Any]:
        # A lock belongs to its process; another one, started by spawning, makes its own.
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


def _nearest(known: NDArray[Any], wanted: NDArray[Any]) -> Indices:
    """Places in increasing numbers that lie nearest to some; the earlier one of two that are as near."""
    after = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    before = np.maximum(after - 1, 0)
    nearer = np.abs(known[before] - wanted) <= np.abs(known[after] - wanted)
    return np.where(nearer, before, after).astype(np.int64)
