"""Frames to an MP4, one after another, each shown at its own time.

    with VideoEncoder(path, (480, 640)) as video:
        video.add(image, 0.04)                  # (480, 640, 3) uint8 RGB, seconds

H.264 where FFmpeg was built with an encoder of it, else MPEG-4. Frames of uneven times stay uneven. Nothing is held but
what the encoder looks ahead, so memory does not grow with the length of the video.
"""

from __future__ import annotations

import contextlib
import math
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["VideoEncoder"]

_TICKS = 90_000
"""Time stamps a second: what cameras' rates (23.976, 25, 29.97, 60) divide, or nearly."""
_ENCODERS = {
    "libx264": {"preset": "veryfast", "crf": "21", "bf": "0", "rc-lookahead": "10"},
    "libopenh264": {"b": "4000000"},
    "mpeg4": {"qscale": "3", "bf": "0"},
}


class VideoEncoder:
    """Writes one MP4. Use it as a context: leaving it by an exception removes the unfinished file.

    Args:
        path: The file to write; it should be a temporary one that is renamed when all is well.
        size: Height and width of frames in pixels. An odd one is made even by repeating the last row or column.
        threads: Encoder threads; 0 lets FFmpeg choose.

    Raises:
        ValueError: `size` is not two positive numbers.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, size: tuple[int, int], *, threads: int = 1) -> None:
        import av

        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"size must be a height and a width in pixels, got {size}")
        self.path, self.size = Path(path), (int(size[0]), int(size[1]))
        self.codec = _encoder()
        self.frames = 0
        self._last = -math.inf
        self._container: Any = av.open(str(path), "w", format="mp4")
        try:
            stream: Any = self._container.add_stream(self.codec, options=_ENCODERS[self.codec])
            stream.height, stream.width = (side + side % 2 for side in self.size)
            stream.pix_fmt = "yuv420p"
            stream.time_base = stream.codec_context.time_base = Fraction(1, _TICKS)
            stream.codec_context.thread_count = threads
            self._stream = stream
        except BaseException:
            self._discard()
            raise

    def __enter__(self) -> VideoEncoder:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self._discard()

    def add(self, image: NDArray[np.uint8], time: float) -> None:
        """Appends a frame.

        Args:
            image: `(H, W, 3)` uint8, RGB.
            time: Seconds at which it is shown, later than those before it.

        Raises:
            ValueError: The frame has another shape or type, or its time is not after the last one.
        """
        import av
        import numpy as np

        if image.shape != (*self.size, 3) or image.dtype != np.uint8:
            raise ValueError(f"frame {image.shape} of {image.dtype}; the video takes {(*self.size, 3)} of uint8")
        stamp = round(time * _TICKS) if math.isfinite(time) else -1
        if stamp < 0 or stamp <= self._last:
            raise ValueError(
                f"time {time} s; it must be at least 0 and after the frame before, {self._last / _TICKS} s"
            )
        odd = [(0, side % 2) for side in self.size]
        padded = np.pad(image, (*odd, (0, 0)), mode="edge") if any(self.size[axis] % 2 for axis in (0, 1)) else image
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(padded), format="rgb24")
        frame.pts, frame.time_base = stamp, Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))
        self._last, self.frames = stamp, self.frames + 1

    def close(self) -> None:
        """Writes what the encoder still holds and ends the file. Raises `ValueError` where there is no frame."""
        if not self.frames:
            self._discard()
            raise ValueError(f"{self.path.name} would have no frame")
        try:
            self._container.mux(self._stream.encode())
            self._container.close()
        except BaseException:
            self._discard()
            raise

    def _discard(self) -> None:
        import av

        # An encoder that was never given a frame cannot end its file; there is nothing in it to be lost.
        with contextlib.suppress(av.error.FFmpegError, ValueError):
            self._container.close()
        self.path.unlink(missing_ok=True)


def _encoder() -> str:
    import av

    for name in _ENCODERS:
        if name in av.codecs_available:
            return name
    raise RuntimeError(f"FFmpeg was built without any of {', '.join(_ENCODERS)}; install the `av` wheel from PyPI")
