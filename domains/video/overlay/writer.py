"""A video with skeletons, boxes and a timeline drawn into it, written frame by frame.

    with open_video(path) as video, OverlayWriter(
        staging / "walk.overlay.mp4", (video.info.height, video.info.width),
        joints=joint_set("coco17"), classes=("walk", "run"), duration=float(video.info.times[-1]),
    ) as overlay:
        for frame in video.stream():
            overlay.add(frame.image, frame.time, persons=[Person(points, confidence)], probabilities={"walk": 0.9})

Frames come upright from the reader (its rotation is applied) with their own times, and both are kept. Where all
probabilities are known before the first frame, `mark` fills the timeline at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from domains.video.overlay.encoder import VideoEncoder
from domains.video.overlay.persons import Person, PersonPainter, text_size
from domains.video.overlay.timeline import Timeline

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from domains.video.skeletons.joints import JointSet

__all__ = ["OverlayWriter"]

_READABLE = 360
"""Narrower frames are enlarged by a whole factor, or nobody can tell bones and names apart."""
_LARGEST_FACTOR = 4


class OverlayWriter:
    """Writes one overlay. Leaving the context by an exception removes the unfinished file.

    Args:
        path: The `.mp4` to write, in a staging folder: whoever asked for it renames it when all is well.
        size: Height and width of the frames that will be given.
        joints: What the skeletons are; None where there are boxes or classes only.
        classes: Rows of the timeline below the frames; without any there is none. `most_likely` chooses of many.
        duration: Seconds that the timeline spans; needed with `classes`.
        sure: Confidence from which a joint is a dot; below, it is a ring.
        threads: Encoder threads; 0 lets FFmpeg choose.

    Raises:
        ValueError: Sizes, classes or duration do not fit.
        OSError: The file cannot be written.
    """

    def __init__(
        self,
        path: str | Path,
        size: tuple[int, int],
        *,
        joints: JointSet | None = None,
        classes: Sequence[str] = (),
        duration: float | None = None,
        sure: float = 0.3,
        threads: int = 1,
    ) -> None:
        if classes and duration is None:
            raise ValueError("a timeline needs the duration of the video in seconds: duration=float(info.times[-1])")
        self.path, self.size = Path(path), size
        self.scale = min(_LARGEST_FACTOR, -(-_READABLE // max(size[1], 1)))
        height, width = size[0] * self.scale, size[1] * self.scale
        self._painter = PersonPainter(joints, scale=self.scale, sure=sure)
        self._timeline = (
            Timeline(classes, duration=duration or 0.0, width=width, text=text_size((width, height)))
            if classes
            else None
        )
        self._marked_until: float | None = None
        strip = self._timeline.height if self._timeline else 0
        self._encoder = VideoEncoder(self.path, (height + strip, width), threads=threads)

    def __enter__(self) -> OverlayWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._encoder.__exit__(kind, *rest)

    @property
    def frames(self) -> int:
        """Frames that were added."""
        return self._encoder.frames

    def mark(self, start: float, stop: float, probabilities: Mapping[str, float]) -> None:
        """Fills the timeline from one second to another, before or while frames are added.

        Raises:
            ValueError: The overlay has no timeline, or a probability is not between 0 and 1.
        """
        if self._timeline is None:
            raise ValueError("probabilities were given, but the overlay has no classes: name them, classes=...")
        self._timeline.mark(start, stop, probabilities)

    def add(
        self,
        image: NDArray[np.uint8],
        time: float,
        *,
        persons: Sequence[Person] = (),
        probabilities: Mapping[str, float] | None = None,
    ) -> None:
        """Draws into a frame and appends it.

        Args:
            image: `(H, W, 3)` uint8 RGB, upright; it is not changed.
            time: Seconds after the first frame of the video.
            persons: Who is drawn.
            probabilities: Class → probability, of the time since the frame before.

        Raises:
            ValueError: Shape, joints, time or probabilities do not fit.
        """
        import numpy as np
        from PIL import Image

        if image.shape != (*self.size, 3):
            raise ValueError(f"frame {image.shape}; the overlay takes {(*self.size, 3)}")
        if probabilities is not None:
            self.mark(time if self._marked_until is None else self._marked_until, time, probabilities)
            self._marked_until = time
        picture = Image.fromarray(image)
        if self.scale > 1:
            picture = picture.resize((self.size[1] * self.scale, self.size[0] * self.scale), Image.Resampling.BICUBIC)
        if persons:
            self._painter.draw(picture, list(persons))
        drawn = np.asarray(picture)
        if self._timeline is not None:
            drawn = np.concatenate([drawn, self._timeline.draw(time)])
        self._encoder.add(drawn, time)
