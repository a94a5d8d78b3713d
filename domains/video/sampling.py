"""Which frames make up a clip: pure functions from a number of frames (or their times) to frame numbers.

    uniform(40, 4)               → [5, 15, 25, 35]     the middle of each of four equal segments
    dense(40, 4, stride=2)       → [16, 18, 20, 22]    neighbours, around the middle
    views(40, 4, 2, stride=2)    → two dense clips, at the beginning and at the end
    at_rate(times, 4, rate=5)    → the frames nearest to four moments 0.2 s apart, whatever the camera's rate was

With a generator, segments and starts are drawn as training wants them; without one they are fixed. What is done where a
video has too few frames is a policy: `repeat_last` shows the last frame again, `wrap` starts over, `error` raises.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from pipelines.errors import DataError

__all__ = ["ShortPolicy", "at_rate", "dense", "uniform", "views"]

ShortPolicy = Literal["repeat_last", "wrap", "error"]
Indices = NDArray[np.int64]


def uniform(
    frames: int,
    count: int,
    *,
    rng: np.random.Generator | None = None,
    short: ShortPolicy = "repeat_last",
    place: float = 0.5,
) -> Indices:
    """One frame of each of `count` equal segments of the whole video (temporal segment networks, Wang et al. 2016).

    Args:
        frames: Frames of the video.
        count: Frames of the clip.
        rng: Draws a frame within each segment; without it the one at `place` is taken.
        short: What to do where there are fewer frames than segments.
        place: Where in each segment, from 0 to below 1: several places give several clips of one video.

    Returns:
        `(count,)` int64, never decreasing but under `wrap`.

    Raises:
        DataError: There are too few frames and the policy is `error`.
        ValueError: A number is not positive.
    """
    _check(frames, count)
    if frames < count:
        return _mend(np.arange(count), frames, short)
    edges = np.arange(count + 1) * frames / count
    if rng is None:
        chosen = edges[:-1] * (1 - place) + edges[1:] * place
    else:
        chosen = rng.uniform(edges[:-1], edges[1:])
    return np.minimum(np.floor(chosen).astype(np.int64), frames - 1)


def dense(
    frames: int,
    count: int,
    *,
    stride: int = 1,
    rng: np.random.Generator | None = None,
    short: ShortPolicy = "repeat_last",
) -> Indices:
    """`count` frames that lie `stride` apart.

    Args:
        frames: Frames of the video.
        count: Frames of the clip.
        stride: Frames from one to the next.
        rng: Draws where the clip starts; without it the clip lies in the middle.
        short: What to do where the video ends before the clip does.

    Returns:
        `(count,)` int64.

    Raises:
        DataError: The video is shorter than the clip and the policy is `error`.
        ValueError: A number is not positive.
    """
    _check(frames, count, stride)
    spare = frames - _span(count, stride)
    if spare < 0:
        start = 0
    else:
        start = spare // 2 if rng is None else int(rng.integers(0, spare + 1))
    return _mend(start + np.arange(count) * stride, frames, short)


def views(
    frames: int, count: int, number: int, *, stride: int = 1, short: ShortPolicy = "repeat_last"
) -> list[Indices]:
    """Dense clips spread evenly from the beginning to the end, as many as asked for, for testing.

    Args:
        frames: Frames of the video.
        count: Frames of a clip.
        number: Clips; one lies in the middle.
        stride: Frames from one to the next.
        short: What to do where the video ends before a clip does.

    Returns:
        `number` arrays `(count,)`.

    Raises:
        DataError: The video is shorter than a clip and the policy is `error`.
        ValueError: A number is not positive.
    """
    _check(frames, count, stride, number)
    spare = max(frames - _span(count, stride), 0)
    starts = [spare // 2] if number == 1 else [round(spare * at / (number - 1)) for at in range(number)]
    return [_mend(start + np.arange(count) * stride, frames, short) for start in starts]


def at_rate(
    times: Sequence[float] | NDArray[np.float64],
    count: int,
    rate: float,
    *,
    rng: np.random.Generator | None = None,
    short: ShortPolicy = "repeat_last",
    place: float = 0.5,
) -> Indices:
    """The frames nearest to `count` moments `1 / rate` apart: the same clip of time from cameras of any rate.

    Args:
        times: Seconds of each frame, increasing.
        count: Frames of the clip.
        rate: Moments a second.
        rng: Draws when the clip starts; without it `place` says when.
        short: What to do where the video ends before the clip does; `wrap` goes on at the beginning.
        place: Where the clip lies, from 0 (it begins with the video) to 1 (it ends with it).

    Returns:
        `(count,)` int64; where the camera was slower than `rate`, frames repeat.

    Raises:
        DataError: The video is shorter than the clip and the policy is `error`.
        ValueError: A number is not positive, or times do not increase.
    """
    stamps = np.asarray(times, dtype=np.float64)
    _check(len(stamps), count)
    if rate <= 0:
        raise ValueError(f"rate must be above 0, got {rate}")
    steps = np.diff(stamps)
    if (steps <= 0).any():
        raise ValueError("times must increase")
    # The last frame is shown as long as a usual one: a video of ten frames lasts ten steps.
    length = float(stamps[-1] - stamps[0] + (np.median(steps) if len(steps) else 1 / rate))
    spare = length - count / rate
    if spare < -1e-9 and short == "error":
        raise _too_short(f"{length:.2f} s", f"{count / rate:.2f} s")
    start = 0.0 if spare <= 0 else (spare * place if rng is None else float(rng.uniform(0, spare)))
    moments = start + np.arange(count) / rate
    if short == "wrap":
        moments = moments % length
    return _nearest(stamps - stamps[0], moments)


def _nearest(stamps: NDArray[np.float64], moments: NDArray[np.float64]) -> Indices:
    after = np.clip(np.searchsorted(stamps, moments), 1, max(len(stamps) - 1, 1))
    if len(stamps) == 1:
        return np.zeros(len(moments), dtype=np.int64)
    before = after - 1
    return np.where(moments - stamps[before] <= stamps[after] - moments, before, after).astype(np.int64)


def _span(count: int, stride: int) -> int:
    return (count - 1) * stride + 1


def _mend(indices: NDArray[np.int64], frames: int, short: ShortPolicy) -> Indices:
    if indices[-1] < frames:
        return indices.astype(np.int64)
    if short == "error":
        raise _too_short(f"{frames} frames", f"{int(indices[-1] - indices[0]) + 1}")
    if short == "wrap":
        return (indices % frames).astype(np.int64)
    return np.minimum(indices, frames - 1).astype(np.int64)


def _too_short(has: str, needs: str) -> DataError:
    return DataError(
        f"the video has {has}, the clip needs {needs}",
        hint="Take fewer frames or a smaller stride, or let `short` be repeat_last or wrap.",
    )


def _check(frames: int, *numbers: int) -> None:
    if frames < 1 or any(number < 1 for number in numbers):
        raise ValueError(f"frames, count, stride and number must be at least 1, got {(frames, *numbers)}")
