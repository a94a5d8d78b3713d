"""Opening a video by what decodes it rightly.

    with open_video(path) as video:
        clip = video.read([0, 8, 16])     # images (3, H, W, 3), times (3,)

Open it in the process that reads it: decoders do not survive a fork.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, Self

from pipelines.errors import CaseError

if TYPE_CHECKING:
    from domains.video.decoding.frames import Frame, Frames, VideoInfo

__all__ = ["Backend", "VideoReader", "open_video"]

Backend = Literal["auto", "pyav", "decord"]


class VideoReader(Protocol):
    """One open video."""

    backend: str

    @property
    def info(self) -> VideoInfo:
        """What the file holds."""

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of some numbers, in the order asked for."""

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Frames one after another."""

    def close(self) -> None:
        """Frees the decoder and the file."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...


def open_video(
    path: str | Path,
    *,
    case_id: str = "",
    size: tuple[int, int] | None = None,
    backend: Backend = "auto",
    threads: int = 1,
) -> VideoReader:
    """Opens a video.

    Args:
        path: The file.
        case_id: What errors name; the file's name without its ending where it is empty.
        size: Height and width that frames are scaled to inside the decoder.
        backend: `auto` takes PyAV, which is right on every kind of file, and about as fast as decord or faster
            (`benchmarks/video_decoding.py`): a check of each file at opening would cost more than decord gains.
            `decord` compares three frames, the count and the kind of file with PyAV, and raises where it does not
            serve the file rightly.
        threads: Decoder threads; 0 lets the library choose.

    Returns:
        The open video, whose `backend` says what decodes it.

    Raises:
        CaseError: The file is no video that can be read.
        ValueError: `size` is not two positive numbers.
    """
    from domains.video.decoding.decord_reader import DecordReader, refusal
    from domains.video.decoding.pyav_reader import PyAVReader

    if size is not None and (len(size) != 2 or min(size) < 1):
        raise ValueError(f"size must be a height and a width in pixels, got {size}")
    path = Path(path)
    case_id = case_id or path.stem
    reference = PyAVReader(path, case_id, size=size, threads=threads)
    if backend != "decord":
        return reference
    why = refusal(reference)
    reference.close()
    if why:
        raise CaseError(
            case_id, f"decord does not serve this file rightly: {why}", hint="Use the backend 'pyav' or 'auto'."
        )
    return DecordReader(path, case_id, reference.info, size=size, threads=threads)
