"""Decoded frames as arrays: RGB, scaled, and upright.

Scaling and the conversion to RGB are one step of FFmpeg's scaler. Frames that shrink are averaged over the area that
each new pixel covers, as `cv2.INTER_AREA` does; those that grow are interpolated between neighbours.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["Coded", "Pictures"]


@dataclass(frozen=True, slots=True)
class Coded:
    """How frames lie in the file, and what the file says of showing them.

    Attributes:
        height: Rows as they are coded, before they are turned.
        width: Columns as they are coded.
        rotation: Degrees counter-clockwise that they are turned by to be shown: 0, 90, 180 or 270.
        mirrored: Whether left and right are exchanged after that.
        askew: Degrees that the file asks for beyond `rotation`; frames are not turned by those.
    """

    height: int
    width: int
    rotation: int = 0
    mirrored: bool = False
    askew: int = 0

    @classmethod
    def of(cls, decoded: Any) -> Coded:
        """What a decoded frame says: the display matrix lies with the frames, not with the stream."""
        import numpy as np

        matrix = decoded.side_data.get("DISPLAYMATRIX")
        if matrix is None:
            return cls(decoded.height, decoded.width)
        (a, b, _), (c, d, _), _ = np.frombuffer(memoryview(matrix), np.int32).reshape(3, 3).tolist()
        mirrored = a * d - b * c < 0
        asked = math.degrees(math.atan2(-b, -a if mirrored else a))
        turned = round(asked / 90) * 90
        return cls(decoded.height, decoded.width, turned % 360, mirrored, round(asked - turned))

    @property
    def shown(self) -> tuple[int, int]:
        """Height and width as they are shown."""
        return (self.width, self.height) if self.rotation % 180 else (self.height, self.width)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual."""
        notes = ["the file asks for a mirrored picture, and it is"] if self.mirrored else []
        if self.askew:
            notes.append(f"the file asks for {self.rotation + self.askew} degrees; it is turned by {self.rotation}")
        return tuple(notes)


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
        """A view `(H, W, 3)` of the frame as it is shown, turned as `coded` says; it lives as long as it is held."""
        import numpy as np

        own = decoded.height, decoded.width
        height, width = own
        if self._size is not None:
            height, width = reversed(self._size) if coded.rotation % 180 else self._size
        shrinks = height <= own[0] and width <= own[1] and (height, width) != own
        scaled = self._reformatter.reformat(
            decoded, width, height, "rgb24", interpolation="AREA" if shrinks else "BILINEAR", threads=self._threads
        )
        # A view of the frame's own memory, whose rows may be padded.
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        picture = rows.reshape(height, width, 3)
        if coded.rotation:
            picture = np.rot90(picture, coded.rotation // 90)
        return picture[:, ::-1] if coded.mirrored else picture
