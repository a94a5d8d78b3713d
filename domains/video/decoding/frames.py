"""What comes out of a video: frames that know their number and their time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Frame", "Frames", "VideoInfo"]


@dataclass(frozen=True)
class VideoInfo:
    """What a file says of its video stream, read from its packets and its first frame.

    Attributes:
        times: Seconds of each frame after the first shown one, `(frames,)` float64, increasing.
        height: Rows of a frame as it is shown, after rotation.
        width: Columns of a frame as it is shown.
        rotation: Degrees that frames are turned counter-clockwise to be shown: 0, 90, 180 or 270.
        codec: Name of the codec, as FFmpeg has it.
        container: Name of the container, as FFmpeg has it.
        start: Time stamp of the first shown frame in the file, in seconds.
        edited: Whether the file has an edit list that hides frames.
        notes: What is unusual and was dealt with.
    """

    times: NDArray[np.float64]
    height: int
    width: int
    rotation: int
    codec: str
    container: str
    start: float = 0.0
    edited: bool = False
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> int:
        """Frames that the file shows."""
        return len(self.times)

    @property
    def rate(self) -> float:
        """Mean frames a second; NaN for a single frame."""
        if self.frames < 2:
            return float("nan")
        return float((self.frames - 1) / (self.times[-1] - self.times[0]))

    @property
    def variable(self) -> bool:
        """Whether frames lie unevenly: a step that is more than half off the median one."""
        import numpy as np

        steps = np.diff(self.times)
        return bool(len(steps) > 1 and (np.abs(steps - np.median(steps)) > 0.5 * np.median(steps)).any())


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        index: Its number in the file, from 0.
        time: Seconds after the first frame.
        image: `(H, W, 3)` uint8, RGB, as it is shown.
    """

    index: int
    time: float
    image: NDArray[np.uint8]


@dataclass(frozen=True)
class Frames:
    """Frames that were asked for together.

    Attributes:
        images: `(T, H, W, 3)` uint8, RGB, as they are shown.
        times: `(T,)` float64, seconds after the first frame of the file.
        indices: `(T,)` int64, numbers in the file.
        backend: What decoded them: `pyav` or `decord`.
    """

    images: NDArray[np.uint8]
    times: NDArray[np.float64]
    indices: NDArray[np.int64]
    backend: str = field(default="pyav")
