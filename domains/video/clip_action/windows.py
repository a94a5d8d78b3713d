"""A long video in windows of time, read once from beginning to end: memory holds the frames of one window.

for window in stream_windows(video, preparation, seconds=2.0, overlap=0.5):
    window.start, window.stop       # seconds
    window.shot.frames              # (1, T, H, W, 3)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.augment import crop
from domains.video.clip_action.clips import Indices, later_frames
from domains.video.clip_action.preparation import Preparation, Shot
from domains.video.decoding import VideoInfo
from domains.video.decoding.opening import VideoReader

__all__ = ["Segment", "Window", "merge_windows", "stream_windows", "window_spans"]


@dataclass(frozen=True, eq=False)
class Window:
    """A stretch of a video.

    Attributes:
        start: Seconds after the first frame.
        stop: The same, of its end.
        shot: Its clip.
        numbers: Frames of the clip `(T,)`.
    """

    start: float
    stop: float
    shot: Shot
    numbers: Indices


@dataclass(frozen=True)
class Segment:
    """A stretch of time between two edges of windows, and what the windows over it say on average."""

    start: float
    stop: float
    probabilities: NDArray[np.float64]


def window_spans(duration: float, seconds: float, overlap: float) -> NDArray[np.float64]:
    """Start and stop of each window `(W, 2)`: evenly apart, the last one ends with the video.

    Args:
        duration: Length of the video in seconds.
        seconds: Length of a window.
        overlap: Share of a window that the next one repeats, where windows fill the video exactly; else more.
    """
    if duration <= seconds:
        return np.array([[0.0, duration]])
    count = int(np.ceil((duration - seconds) / (seconds * (1 - overlap)) - 1e-9)) + 1
    starts = np.linspace(0, duration - seconds, count)
    return np.stack([starts, starts + seconds], 1)


def stream_windows(video: VideoReader, preparation: Preparation, *, seconds: float, overlap: float) -> Iterator[Window]:
    """Reads a video window by window; each frame is decoded once.

    Args:
        video: An open video, whose frames are scaled as `preparation` takes them.
        preparation: Makes clips of windows.
        seconds: Length of a window.
        overlap: Share of a window that the next one repeats.

    Raises:
        CaseError: A frame cannot be decoded, or a window is too short for a clip.
    """
    info = video.info
    spans = window_spans(_duration(info), seconds, overlap)
    wanted = ((span, *_numbers(info, preparation, span)) for span in spans)
    span, numbers, partners = next(wanted)
    held: dict[int, NDArray[np.uint8]] = {}
    for frame in video.stream():
        held[frame.index] = frame.image
        while frame.index >= int(max(numbers.max(), partners.max() if len(partners) else 0)):
            yield Window(float(span[0]), float(span[1]), _shot(held, numbers, partners, info, preparation), numbers)
            following = next(wanted, None)
            if following is None:
                return
            span, numbers, partners = following
            first = int(np.searchsorted(info.times, span[0] - 1e-9))
            held = {number: image for number, image in held.items() if number >= first}


def merge_windows(spans: NDArray[np.float64], probabilities: NDArray[np.float64]) -> list[Segment]:
    """The mean of all windows that cover a moment, for each stretch between two edges of windows."""
    edges = np.unique(spans.round(6))
    made = []
    for start, stop in pairwise(edges):
        over = (spans[:, 0] < stop - 1e-6) & (spans[:, 1] > start + 1e-6)
        if over.any():
            made.append(Segment(float(start), float(stop), probabilities[over].mean(0)))
    return made


def _duration(info: VideoInfo) -> float:
    """To the end of the last frame, which is shown as long as a usual one."""
    steps = np.diff(info.times)
    return float(info.times[-1] + (np.median(steps) if len(steps) else 0.0))


def _numbers(info: VideoInfo, preparation: Preparation, span: NDArray[np.float64]) -> tuple[Indices, Indices]:
    """Frames of the clip of a window, and those a moment later; all of them within the window."""
    first = min(int(np.searchsorted(info.times, span[0] - 1e-9)), info.frames - 1)
    stop = max(int(np.searchsorted(info.times, span[1] - 1e-9)), first + 1)
    times = info.times[first:stop] - info.times[first]
    inside = dataclasses.replace(info, times=times)
    one_view = dataclasses.replace(preparation, clip=preparation.clip.model_copy(update={"views": 1}))
    numbers = one_view.view_numbers("", inside)[0]
    partners = later_frames(times, numbers, preparation.clip.motion_gap) if preparation.motion else numbers[:0]
    return numbers + first, partners + first


def _shot(
    held: dict[int, NDArray[np.uint8]], numbers: Indices, partners: Indices, info: VideoInfo, preparation: Preparation
) -> Shot:
    size = preparation.given.size
    frames, later = (
        crop(np.stack([held[int(at)] for at in chosen]), size)[None] if len(chosen) else None
        for chosen in (numbers, partners)
    )
    assert frames is not None
    return Shot(frames, later, info.times[numbers][None])
