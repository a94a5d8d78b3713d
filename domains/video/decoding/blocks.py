"""A video of any length in blocks of frames: what a network looks at together, with memory for one block.

    for block in blocks(video, 16, overlap=4):
        block.images                    # (16, H, W, 3); the first four are those that ended the block before
        block.times, block.indices      # when each was taken, and which frame of the file it is

Frames are decoded once, whatever blocks share; the last block holds what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from domains.video.decoding.frames import Frame, Frames

if TYPE_CHECKING:
    from domains.video.decoding.opening import VideoReader

__all__ = ["blocks"]


def blocks(
    video: VideoReader, count: int, *, overlap: int = 0, start: int = 0, stop: int | None = None, step: int = 1
) -> Iterator[Frames]:
    """Reads a video from one frame to another, some at a time.

    Args:
        video: An open video; it is not closed.
        count: Frames of a block.
        overlap: Frames that a block repeats of the one before.
        start: First frame.
        stop: The frame before which to end; the end of the video where left out.
        step: Frames from one to the next.

    Yields:
        Blocks of `count` frames; the last may be shorter, but has at least one frame that no other has.

    Raises:
        CaseError: A frame cannot be decoded; the blocks before were right.
        ValueError: `count`, `overlap`, `start`, `stop` or `step` are not what they can be.
    """
    if count < 1 or not 0 <= overlap < count:
        raise ValueError(f"count must be at least 1 and overlap below it, got count {count}, overlap {overlap}")
    end = video.info.frames if stop is None else min(stop, video.info.frames)
    if start < 0 or step < 1 or end <= start:
        raise ValueError(f"frames {start} to {end} in steps of {step}: the video has {video.info.frames}")
    return _blocks(video, count, overlap, range(start, end, step))


def _blocks(video: VideoReader, count: int, overlap: int, wanted: range) -> Iterator[Frames]:
    held: deque[Frame] = deque(maxlen=count)
    left = len(wanted)
    for frame in video.stream(start=wanted.start, step=wanted.step):
        held.append(frame)
        left -= 1
        if len(held) == count or not left:
            yield _joined(held, video.backend)
            for _ in range(len(held) - overlap):
                held.popleft()
        if not left:
            return


def _joined(held: deque[Frame], backend: str) -> Frames:
    import numpy as np

    return Frames(
        np.stack([frame.image for frame in held]),
        np.array([frame.time for frame in held]),
        np.array([frame.index for frame in held], dtype=np.int64),
        backend,
    )
