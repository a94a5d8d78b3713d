"""Decoding by PyAV, the reference: right on edit lists, transport streams, variable rates and AV1."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.frames import Frame, Frames, VideoInfo
from domains.video.decoding.packets import PacketIndex, av_error_types, open_container, read_packets, stamp_of
from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PyAVReader"]


class PyAVReader:
    """One open video. Use it as a context: an open decoder holds memory and a file.

    Args:
        path: The file.
        case_id: What errors name.
        size: Height and width that frames are scaled to inside the decoder, before they become RGB; None keeps them.
        threads: Decoder threads; 0 lets FFmpeg choose.

    Raises:
        CaseError: The file is no video that can be read.
    """

    backend = "pyav"

    def __init__(self, path: Path, case_id: str, *, size: tuple[int, int] | None = None, threads: int = 1) -> None:
        from av.video.reformatter import VideoReformatter

        self.path, self.case_id, self.size = path, case_id, size
        self._threads = threads
        # A frame's own `reformat` plans the conversion anew for every frame, at half of the cost of small ones.
        self._reformatter = VideoReformatter()
        self._wanted: frozenset[int] = frozenset()
        self._open()
        try:
            self.packets: PacketIndex = read_packets(self._container, case_id)
            self._opening = self.packets.opening if self._begins_with_a_key() else ((), 0)
            self._counted = str(self._container.format.name) == "avi" or self.packets.counted
            self.info = self._describe()
        except BaseException:
            self._container.close()
            raise

    def _open(self) -> None:
        self._container: Any = open_container(self.path, self.case_id)
        self._stream: Any = self._container.streams.video[0]
        self._stream.codec_context.thread_count = self._threads
        # With a single thread, the machinery of several still costs a fourth of the time.
        self._stream.thread_type = "NONE" if self._threads == 1 else "AUTO"

    def __enter__(self) -> PyAVReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Frees the decoder and the file."""
        self._container.close()
        self._opening = (), 0
        self.packets = replace(self.packets, held=(), opening=self._opening)

    def read(self, indices: Sequence[int]) -> Frames:
        """The frames of some numbers, in the order asked for; one may be asked for twice and is decoded once.

        Raises:
            CaseError: A number is none of the file's, or a frame cannot be decoded.
        """
        import numpy as np

        wanted = check_indices(indices, self.info.frames, self.case_id)
        unique, places = np.unique(wanted, return_inverse=True)
        images: NDArray[np.uint8] | None = None
        for row, (number, decoded) in enumerate(self._decode(unique)):
            image = self._picture(decoded, number)
            if images is None:
                images = np.empty((len(unique), *image.shape), np.uint8)
            images[row] = image
        assert images is not None  # there is at least one number
        # Frames that were asked for in order, each once, need no copy.
        chosen = images if len(unique) == len(wanted) and (unique == wanted).all() else images[places]
        return Frames(chosen, self.info.times[wanted], wanted, self.backend)

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Frames one after another, from `start` in steps; memory does not grow with the length of the video."""
        import numpy as np

        for at, decoded in self._decode(np.arange(start, self.info.frames, step)):
            yield Frame(at, float(self.info.times[at]), self._picture(decoded, at).copy())

    def _decode(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Decoded frames of increasing numbers. It seeks only where the next one lies behind a later key frame."""
        import numpy as np

        stamps, keys = self.packets.stamps, self.packets.keys
        self._wanted = frozenset(stamps[wanted].tolist())
        position = -1
        decoder: Iterator[tuple[int, Any]] = iter(())
        for at in (int(number) for number in wanted):
            key = max(int(np.searchsorted(keys, stamps[at], side="right")) - 1, 0)
            if position < 0 or int(np.searchsorted(stamps, keys[key])) > position:
                decoder = self._starting_before(key, at)
            reached = next(((number, decoded) for number, decoded in decoder if number >= at), None)
            if reached is None or reached[0] != at:
                raise self._unreadable(at)
            position, decoded = reached
            yield at, decoded

    def _starting_before(self, key: int, at: int) -> Iterator[tuple[int, Any]]:
        """Numbered frames that begin no later than `at`.

        Containers without an index (transport streams) may be entered behind the key frame that was asked for: then an
        earlier one is tried, and at last the beginning of the file. Where all share one stamp, that is the only start.
        """
        starts = [None] if self.packets.counted else [key, max(key - 1, 0), None]
        for start in dict.fromkeys(starts):
            decoder = self._numbered(start)
            first = next(decoder, None)
            if first is not None and first[0] <= at:
                return itertools.chain([first], decoder)
        return iter(())

    def _numbered(self, key: int | None) -> Iterator[tuple[int, Any]]:
        """Decoded frames from a key frame on (None: from the beginning), each with its number in the file.

        The time stamp says which frame it is, so that one that cannot be decoded is not mistaken for the next. AVI has
        no such stamps, and FFmpeg's guesses are out of order where B-frames are packed: there frames are counted, and
        so they are where all packets share one stamp.
        """
        import numpy as np

        stamps = self.packets.stamps
        stamp = None if key is None else int(self.packets.keys[key])
        number = -1 if stamp is None else int(np.searchsorted(stamps, stamp)) - 1
        for decoded in self._from(stamp):
            if self._counted:
                number += 1
                if number < len(stamps):
                    yield number, decoded
                continue
            own = decoded.pts if decoded.pts is not None else decoded.dts
            place = int(np.searchsorted(stamps, own)) if own is not None else len(stamps)
            if place < len(stamps) and stamps[place] == own:
                yield place, decoded

    def _from(self, stamp: int | None) -> Iterator[Any]:
        """Decoded frames from a key frame on; what the decoder cannot take is an error of the frame asked for."""
        try:
            opening, fed = self._opening
            self._opening = (), 0
            packets = self._packets(stamp)
            if opening and self.packets.held and stamp in (None, int(self.packets.stamps[0])):
                # The decoder has begun already, to tell the rotation: it goes on from there.
                yield from opening
                packets = iter(self.packets.held[fed:])
            for packet in packets:
                # Nothing refers to such frames: those that nobody wants need not be decoded on the way to others.
                needed = self._counted or packet.pts is None or packet.pts in self._wanted
                self._stream.codec_context.skip_frame = "DEFAULT" if needed else "NONREF"
                yield from packet.decode()
        except av_error_types():
            return

    def _begins_with_a_key(self) -> bool:
        """Whether the first packet of the file is the key frame at which its first shown frame is decoded."""
        held, keys, stamps = self.packets.held, self.packets.keys, self.packets.stamps
        return bool(held) and held[0].is_keyframe and stamp_of(held[0]) == keys[0] == stamps[0]

    def _packets(self, stamp: int | None) -> Iterator[Any]:
        """Packets from a key frame on (None: from the beginning), for a decoder that knows nothing of others."""
        if held := self.packets.held:
            keys = (n for n, packet in enumerate(held) if packet.is_keyframe and stamp_of(packet) == stamp)
            first = 0 if stamp is None else next(keys, 0)
            self._stream.codec_context.flush_buffers()
            yield from held[first:]
            return
        if stamp is None:
            self._container.close()
            self._open()
        else:
            self._container.seek(stamp, stream=self._stream, backward=True, any_frame=False)
        yield from self._container.demux(self._stream)

    def _picture(self, decoded: Any, number: int) -> NDArray[np.uint8]:
        """A view of `(H, W, 3)`, as it is shown."""
        import numpy as np

        if decoded.is_corrupt:
            raise self._unreadable(number)
        height, width = self.size or (decoded.height, decoded.width)
        if self.size is not None and self.info.rotation % 180:
            height, width = width, height
        scaled = self._reformatter.reformat(
            decoded, width, height, "rgb24", interpolation="BILINEAR", threads=self._threads
        )
        # A view of the frame's own memory, whose rows may be padded; it lives as long as the view.
        plane = scaled.planes[0]
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return np.rot90(rows.reshape(height, width, 3), self.info.rotation // 90)

    def _unreadable(self, number: int) -> CaseError:
        return CaseError(
            self.case_id,
            f"frame {number} of {self.info.frames} cannot be decoded",
            hint="The file is damaged there; `pulvinar video validate` tells how many frames can be read before it.",
        )

    def _describe(self) -> VideoInfo:
        import numpy as np

        stream, packets = self._stream, self.packets
        rotation = packets.rotation
        if rotation is None:
            raise CaseError(
                self.case_id,
                "not one frame can be decoded",
                hint="The file is damaged, or its codec is not built in; `ffmpeg -i FILE -f null -` says more.",
            )
        times = (packets.stamps - packets.stamps[0]).astype(np.float64) * float(stream.time_base)
        height, width = stream.codec_context.height, stream.codec_context.width
        if not height or not width:
            raise CaseError(self.case_id, "the file does not say how large its frames are", hint="It is damaged.")
        if rotation % 180:
            height, width = width, height
        if self.size is not None:
            height, width = self.size
        notes = list(packets.notes)
        if packets.hidden:
            notes.append(f"an edit list hides {packets.hidden} frames")
        if packets.repeated:
            notes.append(f"{packets.repeated} packets repeat a time stamp")
        return VideoInfo(
            times=times,
            height=height,
            width=width,
            rotation=rotation,
            codec=str(stream.codec_context.codec.canonical_name),
            container=str(self._container.format.name),
            start=float(packets.stamps[0] * stream.time_base),
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
