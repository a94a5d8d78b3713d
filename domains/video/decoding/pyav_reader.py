"""Decoding by PyAV, the reference: right on edit lists, transport streams, variable rates and AV1."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.decoder import FrameDecoder
from domains.video.decoding.frames import Frame, Frames, VideoInfo
from domains.video.decoding.packets import PacketIndex
from domains.video.decoding.pictures import Coded, Pictures
from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PyAVReader", "check_indices"]


class PyAVReader:
    """One open video. Use it as a context: an open decoder holds memory and a file.

    Args:
        path: The file.
        case_id: What errors name.
        size: Height and width that frames are scaled to before they become RGB; None keeps them.
        threads: Decoder threads; 0 lets FFmpeg choose.

    Raises:
        CaseError: The file is no video that can be read.
    """

    backend = "pyav"

    def __init__(self, path: Path, case_id: str, *, size: tuple[int, int] | None = None, threads: int = 1) -> None:
        self.path, self.case_id, self.size = path, case_id, size
        self._threads, self._closed = threads, False
        self._info: VideoInfo | None = None
        self._picture = Pictures(size, threads)
        self._decoder = FrameDecoder(path, case_id, threads)
        stamps = self._decoder.packets.stamps
        self._unit = float(self._decoder.stream.time_base)
        self._times: NDArray[np.float64] = (stamps - stamps[0]) * self._unit

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the decoder and the file."""
        self._closed = True
        self._decoder.close()

    @property
    def packets(self) -> PacketIndex:
        """What the packets of the file say."""
        return self._decoder.packets

    @property
    def info(self) -> VideoInfo:
        """What the file holds. How its frames are shown is known when one has been decoded.

        Raises:
            CaseError: Not one frame can be decoded.
        """
        if self._info is None:
            if self._closed:
                with PyAVReader(self.path, self.case_id, size=self.size, threads=self._threads) as again:
                    return again.info
            if self._decoder.coded is None:
                self._decoder.begin()
            self._info = self._describe()
        return self._info

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of some numbers, in the order asked for; one may be asked for twice and is decoded once.

        Raises:
            CaseError: A number is none of the file's, or a frame cannot be decoded.
        """
        import numpy as np

        wanted = check_indices(indices, len(self._times), self.case_id)
        ordered = bool((wanted[1:] > wanted[:-1]).all())
        unique, places = (wanted, None) if ordered else np.unique(wanted, return_inverse=True)
        images: NDArray[np.uint8] | None = None
        for row, (number, decoded) in enumerate(self._decoder.frames(unique)):
            image = self._shown(decoded, number)
            if images is None:
                images = np.empty((len(unique), *image.shape), np.uint8)
            images[row] = image
        assert images is not None  # there is at least one number
        return Frames(images if places is None else images[places], self._times[wanted], wanted, self.backend)

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Frames one after another, from `start` in steps; memory does not grow with the length of the video."""
        import numpy as np

        for at, decoded in self._decoder.frames(np.arange(start, len(self._times), step)):
            yield Frame(at, float(self._times[at]), self._shown(decoded, at).copy())

    def _shown(self, decoded: Any, number: int) -> NDArray[np.uint8]:
        """A view of `(H, W, 3)`, as it is shown."""
        coded = self._decoder.coded or Coded.of(decoded)
        if self.size is None and (decoded.height, decoded.width) != (coded.height, coded.width):
            raise CaseError(
                self.case_id,
                f"frame {number} is coded as {decoded.width}×{decoded.height}, others as {coded.width}×{coded.height}",
                hint="The size changes within the file; ask for one size, to which all frames are scaled.",
            )
        return self._picture(decoded, coded)

    def _describe(self) -> VideoInfo:
        packets, stream, coded = self._decoder.packets, self._decoder.stream, self._decoder.coded
        assert coded is not None  # a frame has been decoded
        height, width = self.size or coded.shown
        notes = [*packets.notes, *coded.notes]
        if (aspect := stream.sample_aspect_ratio) and aspect != 1:
            notes.append(f"pixels are {aspect.numerator}:{aspect.denominator} wide to high; frames are not stretched")
        return VideoInfo(
            times=self._times,
            height=height,
            width=width,
            rotation=coded.rotation,
            codec=str(stream.codec_context.codec.canonical_name),
            container=str(self._decoder.container.format.name),
            start=float(packets.stamps[0]) * self._unit,
            edited=packets.hidden > 0,
            notes=tuple(notes),
        )


def check_indices(indices: Sequence[int], frames: int, case_id: str) -> NDArray[np.int64]:
    """The numbers as an array. Raises `CaseError` where one is none of the file's, `ValueError` where there is none."""
    import numpy as np

    wanted = np.asarray(indices, dtype=np.int64)
    if wanted.ndim != 1 or not wanted.size:
        raise ValueError(f"indices must be a list of frame numbers, got an array of shape {wanted.shape}")
    outside = wanted[(wanted < 0) | (wanted >= frames)]
    if outside.size:
        raise CaseError(case_id, f"frame {outside[0]} was asked for; the video has frames 0 to {frames - 1}")
    return wanted
