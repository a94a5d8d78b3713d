"""Decoded frames as arrays: RGB, scaled, and upright.

Scaling and the conversion to RGB are one step of FFmpeg's scaler. Frames that shrink are averaged over the area that
each new pixel covers, as `cv2.INTER_AREA` does; those that grow are interpolated between neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Coded", "Pictures"]


@dataclass(frozen=True, slots=True)
class Coded:
    """How frames lie in the file.

    Attributes:
        height: Rows as they are coded, before they are turned.
        width: Columns as they are coded.
        rotation: Degrees counter-clockwise that they are turned by to be shown: 0, 90, 180 or 270.
    """

    height: int
    width: int
    rotation: int

    @classmethod
    def of(cls, decoded: Any) -> Coded:
        """What a decoded frame says; the display matrix lies with the frames, not with the stream."""
        return cls(decoded.height, decoded.width, int(round(decoded.rotation / 90) * 90 % 360))

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width as they are shown."""
        return (self.width, self.height) if self.rotation % 180 else (self.height, self.width)


class Pictures:
    """Turns decoded frames into arrays.

    Args:
        size: Height and width that frames are shown at; None keeps their own.
        threads: Threads of the scaler; 0 lets FFmpeg choose.
    """

    def __init__(self, size: tuple[int, int] | None, threads: int) -> None:
        from av.video.reformatter import VideoReformatter

        self._size, self._threads = size, threads
        # A frame's own `reformat` plans the conversion anew for every frame, at half of the cost of small ones.
        self._reformatter = VideoReformatter()

    def __call__(self, decoded: Any, coded: Coded) -> NDArray[np.uint8]:
        """A view `(H, W, 3)` of the frame as it is shown; it lives as long as it is held."""
        import numpy as np

        height, width = self._size or coded.shown
        if coded.rotation % 180:
            height, width = width, height
        shrinks = height <= coded.height and width <= coded.width and (height, width) != (coded.height, coded.width)
        scaled = self._reformatter.reformat(
            decoded, width, height, "rgb24", interpolation="AREA" if shrinks else "BILINEAR", threads=self._threads
        )
        # A view of the frame's own memory, whose rows may be padded.
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        picture = rows.reshape(height, width, 3)
        return np.rot90(picture, coded.rotation // 90) if coded.rotation else picture
