"""Decoding by decord, for whoever must have its frames, and only where it serves a file rightly.

decord 0.6 gives wrong frames without a word on edit lists and transport streams, knows no AV1, and tells times by the
mean rate. So it never says what a file holds: `PyAVReader` does, and `refusal` compares the two before decord is used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.frames import Frame, Frames, VideoInfo
from domains.video.decoding.pyav_reader import PyAVReader, check_indices
from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DecordReader", "refusal"]

_CONTAINERS = frozenset({"mov", "mp4", "matroska", "webm", "avi"})
_CODECS = frozenset({"h264", "hevc", "vp8", "vp9", "mpeg4", "msmpeg4v2", "msmpeg4v3", "msmpeg4", "mjpeg"})
_CHUNK = 16
_TOLERANCE = 3.0
"""Mean difference of grey values up to which two decoders' frames are the same picture."""


class DecordReader:
    """One open video, decoded by decord; what the file holds was told by PyAV.

    Args:
        path: The file.
        case_id: What errors name.
        info: What `PyAVReader` found.
        size: Height and width that frames are scaled to inside the decoder; None keeps them.
        threads: Decoder threads; 0 lets decord choose.
    """

    backend = "decord"

    def __init__(
        self, path: Path, case_id: str, info: VideoInfo, *, size: tuple[int, int] | None = None, threads: int = 1
    ) -> None:
        self.path, self.case_id, self.info, self.size = path, case_id, info, size
        self._reader: Any = _open(path, size, threads)

    def __enter__(self) -> DecordReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the decoder and the file."""
        self._reader = None

    def __len__(self) -> int:
        return len(self._reader)

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of some numbers, in the order asked for; decoded sorted, each once, in one request.

        Raises:
            CaseError: A number is none of the file's, or a frame cannot be decoded.
        """
        import numpy as np

        wanted = check_indices(indices, self.info.frames, self.case_id)
        unique, places = np.unique(wanted, return_inverse=True)
        images = self._batch(unique)
        # Frames that were asked for in order, each once, need no copy.
        chosen = images if len(unique) == len(wanted) and (unique == wanted).all() else images[places]
        return Frames(chosen, self.info.times[wanted], wanted, self.backend)

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Frames one after another, from `start` in steps, decoded some at a time."""
        import numpy as np

        numbers = np.arange(start, self.info.frames, step)
        for first in range(0, len(numbers), _CHUNK):
            chunk = numbers[first : first + _CHUNK]
            for number, image in zip(chunk, self._batch(chunk), strict=True):
                yield Frame(int(number), float(self.info.times[number]), image)

    def _batch(self, numbers: NDArray[np.int64]) -> NDArray[np.uint8]:
        try:
            images: NDArray[np.uint8] = self._reader.get_batch(numbers.tolist()).asnumpy()
        except Exception as error:
            if type(error).__name__ != "DECORDError":
                raise
            raise CaseError(
                self.case_id,
                f"a frame of {int(numbers[0])} to {int(numbers[-1])} cannot be decoded",
                hint="The file is damaged there; `pulvinar video validate` tells how many frames can be read.",
            ) from error
        return images


def refusal(reference: PyAVReader) -> str:
    """Why decord may not decode this file; empty where it serves it rightly.

    It looks at container, codec and edit list, counts frames, and compares three frames with those of PyAV.
    """
    try:
        import decord  # noqa: F401
    except ImportError:
        return "decord is not installed"
    info = reference.info
    if not _CONTAINERS & set(info.container.split(",")):
        return f"the container is {info.container}"
    if info.codec not in _CODECS:
        return f"the codec is {info.codec}"
    if info.container == "avi" and info.codec == "mpeg4":
        return "with MPEG-4 in AVI it gives now one, now another last frame"
    if info.edited:
        return "the file has an edit list"
    if reference.packets.ambiguous:
        return "its frames have no times of their own"
    if reference.packets.broken or reference.packets.repeated:
        return "the file is damaged"
    return _compared(reference)


def _compared(reference: PyAVReader) -> str:
    import numpy as np

    info = reference.info
    numbers = sorted({0, info.frames // 2, info.frames - 1})
    try:
        with DecordReader(reference.path, reference.case_id, info, size=reference.size) as candidate:
            if len(candidate) != info.frames:
                return f"it counts {len(candidate)} frames of {info.frames}"
            theirs = candidate.read(numbers).images
        ours = reference.read(numbers).images
    except CaseError as error:
        return f"a frame cannot be compared: {error.reason}"
    except Exception as error:
        if type(error).__name__ != "DECORDError":
            raise
        return "it cannot open the file"
    if theirs.shape != ours.shape:
        return f"its frames are {theirs.shape[1:3]}, not {ours.shape[1:3]}"
    for number, one, other in zip(numbers, theirs, ours, strict=True):
        difference = float(np.abs(one.astype(np.int16) - other).mean())
        if difference > _TOLERANCE:
            return f"its frame {number} is another one (mean difference {difference:.1f})"
    return ""


def _open(path: Path, size: tuple[int, int] | None, threads: int) -> Any:
    import decord

    decord.logging.set_level(decord.logging.QUIET)
    height, width = size or (-1, -1)
    return decord.VideoReader(str(path), ctx=decord.cpu(0), width=width, height=height, num_threads=threads)
