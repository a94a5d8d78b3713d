"""Decoding by PyAV, the reference: right on edit lists, transport streams, variable rates and AV1."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.frames import Frame, Frames, VideoInfo
from domains.video.decoding.packets import (
    PacketIndex,
    av_error_types,
    one_frame_a_packet,
    open_container,
    packets_of,
    read_packets,
    stamp_of,
)
from domains.video.decoding.pictures import Coded, Pictures
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
        size: Height and width that frames are scaled to before they become RGB; None keeps them.
        threads: Decoder threads; 0 lets FFmpeg choose.

    Raises:
        CaseError: The file is no video that can be read.
    """

    backend = "pyav"

    def __init__(self, path: Path, case_id: str, *, size: tuple[int, int] | None = None, threads: int = 1) -> None:
        self.path, self.case_id, self.size = path, case_id, size
        self._threads = threads
        self._picture = Pictures(size, threads)
        self._coded: Coded | None = None
        self._info: VideoInfo | None = None
        self._closed = False
        self._begun: tuple[tuple[Any, ...], int] = (), 0
        self._open()
        try:
            self.packets: PacketIndex = read_packets(self._container, case_id)
            container, codec = str(self._container.format.name), self._stream.codec_context
            self._facts = container, str(codec.codec.canonical_name)
            self._slots = one_frame_a_packet(self._container) and bool(self.packets.order)
            self._delay = int(codec.has_b_frames)
            self._counted = (container == "avi" or self.packets.counted) and not self._slots
            self._unit = float(self._stream.time_base)
            if self.packets.headless and not self._counted and not self._slots:
                self._leave_out_what_has_no_key()
            stamps = self.packets.stamps
            self._times = (stamps - stamps[0]).astype("float64") * self._unit
            self._numbers: dict[int, int] = dict(zip(stamps.tolist(), range(len(stamps)), strict=True))
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
        self._closed = True
        self._begun = (), 0
        self.packets = replace(self.packets, held=(), opening=())

    @property
    def info(self) -> VideoInfo:
        """What the file holds. How its frames are turned is known when one has been decoded.

        Raises:
            CaseError: Not one frame can be decoded.
        """
        if self._info is None:
            if self._coded is None:
                if self._closed:
                    with PyAVReader(self.path, self.case_id, size=self.size, threads=self._threads) as again:
                        return again.info
                self._begin()
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
        for row, (number, decoded) in enumerate(self._decode(unique)):
            image = self._shown(decoded, number)
            if images is None:
                images = np.empty((len(unique), *image.shape), np.uint8)
            images[row] = image
        assert images is not None  # there is at least one number
        return Frames(images if places is None else images[places], self._times[wanted], wanted, self.backend)

    def stream(self, *, start: int = 0, step: int = 1) -> Iterator[Frame]:
        """Frames one after another, from `start` in steps; memory does not grow with the length of the video."""
        import numpy as np

        for at, decoded in self._decode(np.arange(start, len(self._times), step)):
            yield Frame(at, float(self._times[at]), self._shown(decoded, at).copy())

    def _decode(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Decoded frames of increasing numbers.

        It seeks where at least one frame lies between the last one and the key frame of the next.
        """
        import numpy as np

        stamps, keys = self.packets.stamps, self.packets.keys
        key = np.maximum(np.searchsorted(keys, stamps[wanted], side="right") - 1, 0)
        seeks = np.searchsorted(stamps, keys[key])[1:] > wanted[:-1] + 1
        for run in np.split(np.arange(len(wanted)), np.flatnonzero(seeks) + 1):
            yield from self._run(wanted[run], int(key[run[0]])) if len(run) else ()

    def _run(self, wanted: NDArray[np.int64], key: int) -> Iterator[tuple[int, Any]]:
        """Decoded frames of increasing numbers, from one start of the decoder."""
        decoder = self._starting_before(key, wanted)
        for at in wanted.tolist():
            reached = next((found for found in decoder if found[0] >= at), None)
            if reached is None or reached[0] != at:
                raise self._unreadable(at)
            yield reached

    def _starting_before(self, key: int, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Numbered frames that begin no later than the first one wanted.

        Containers without an index (transport streams) may be entered behind the key frame that was asked for: then an
        earlier one is tried, and at last the beginning of the file. Where all share one stamp, that is the only start.
        """
        starts = [None] if self.packets.counted else [key, max(key - 1, 0), None]
        for start in dict.fromkeys(starts):
            decoder = self._numbered(start, wanted)
            first = next(decoder, None)
            if first is not None and first[0] <= wanted[0]:
                return itertools.chain([first], decoder)
        return iter(())

    def _numbered(self, key: int | None, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Decoded frames from a key frame on (None: from the beginning), each with its number in the file.

        The time stamp says which frame it is, so that one that cannot be decoded is not mistaken for the next. AVI has
        no such stamps, and FFmpeg's guesses are out of order where B-frames are packed. MPEG-4 gives a frame for each
        packet there, one packet later where it has B-frames. Other frames of AVI are counted, and so are they where all
        packets share one stamp.
        """
        stamp = None if key is None else int(self.packets.keys[key])
        if self._counted:
            first = 0 if stamp is None else int(self.packets.stamps.searchsorted(stamp))
            yield from zip(range(first, len(self._times)), self._from(stamp, None), strict=False)
            return
        if self._slots:
            yield from self._numbered_by_packet(stamp, wanted)
            return
        for decoded in self._from(stamp, set(self.packets.stamps[wanted].tolist())):
            number = self._numbers.get(decoded.pts if decoded.pts is not None else decoded.dts)
            if number is not None:
                yield number, decoded

    def _numbered_by_packet(self, stamp: int | None, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        order, last = self.packets.order, len(self._times) - 1
        giving = {order[place] for number in wanted.tolist() if (place := number + self._delay) <= last}
        for decoded in self._from(stamp, giving):
            # The last frame comes out when there are no more packets.
            number = last if decoded.dts is None else bisect_left(order, decoded.dts) - self._delay
            if number >= 0:
                yield number, decoded

    def _from(self, stamp: int | None, wanted: set[int] | None) -> Iterator[Any]:
        """Decoded frames from a key frame on; what the decoder cannot take is an error of the frame asked for.

        Args:
            stamp: Of the key frame; None begins with the file.
            wanted: Stamps of the frames that are wanted, or of the packets that give them; None decodes all.
        """
        codec, left = self._stream.codec_context, set(wanted or ())
        begun, packets = self._packets_from(stamp)
        progressive, whole = False, wanted is None or self._slots
        try:
            for frame in begun:
                progressive = not frame.interlaced_frame
                yield frame
            skipping = None
            for packet in packets:
                own = packet.dts if self._slots else packet.pts
                if not left and progressive and not whole and stamp_of(packet) in self._numbers:
                    # All that is wanted lies in the decoder: it need not decode others to give it back.
                    yield from codec.decode(None)
                    return
                # Nothing refers to such frames: those that nobody wants need not be decoded on the way to others.
                skip = "DEFAULT" if wanted is None or own is None or own in wanted else "NONREF"
                if skip != skipping:
                    codec.skip_frame = skipping = skip
                for frame in packet.decode():
                    self._coded = self._coded or Coded.of(frame)
                    progressive = not frame.interlaced_frame
                    yield frame
                left.discard(stamp_of(packet))
        except av_error_types():
            return

    def _packets_from(self, stamp: int | None) -> tuple[tuple[Any, ...], Iterator[Any]]:
        """Frames that the decoder has given already, and the packets after them; else none, and those from `stamp`."""
        (begun, fed), self._begun = self._begun, ((), 0)
        if begun and stamp in (None, int(self.packets.stamps[0])):
            return begun, iter(self.packets.held[fed:])
        return (), self._packets(stamp)

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
        yield from packets_of(self._container)

    def _begin(self) -> Any:
        """Decodes until there is one frame, and remembers how far that went. Gives that frame."""
        for packets in (self.packets.opening, self._packets(None)):
            self._stream.codec_context.flush_buffers()
            self._stream.codec_context.skip_frame = "DEFAULT"
            damaged = False
            for fed, packet in enumerate(packets, 1):
                decoded = _decoded(packet)
                damaged = damaged or decoded is None
                if decoded:
                    self._coded = Coded.of(decoded[0])
                    if self._begins_with_a_key() and not damaged:
                        self._begun = tuple(decoded), fed
                    return decoded[0]
        raise CaseError(
            self.case_id,
            "not one frame can be decoded",
            hint="The file is damaged, or its codec is not built in; `ffmpeg -i FILE -f null -` says more.",
        )

    def _begins_with_a_key(self) -> bool:
        """Whether the first packet of the file is the key frame at which its first shown frame is decoded."""
        held, keys, stamps = self.packets.held, self.packets.keys, self.packets.stamps
        return bool(held) and held[0].is_keyframe and stamp_of(held[0]) == keys[0] == stamps[0]

    def _leave_out_what_has_no_key(self) -> None:
        """A recording that begins in the middle shows nothing before the first frame that needs no earlier one."""
        first = self._begin()
        stamps = self.packets.stamps
        place = int(stamps.searchsorted(first.pts if first.pts is not None else stamps[0]))
        if 0 < place <= self.packets.headless:
            note = f"{place} frames before the first that can be decoded refer to ones that the file does not hold"
            self._begun = (), 0
            self.packets = replace(self.packets, stamps=stamps[place:], notes=(*self.packets.notes, note))

    def _shown(self, decoded: Any, number: int) -> NDArray[np.uint8]:
        """A view of `(H, W, 3)`, as it is shown."""
        coded = Coded.of(decoded)
        if decoded.is_corrupt:
            raise self._unreadable(number)
        if coded != self._coded and self.size is None:
            first, other = self._coded or coded, coded
            raise CaseError(
                self.case_id,
                f"frame {number} is {other.shown[1]}×{other.shown[0]}, others are {first.shown[1]}×{first.shown[0]}",
                hint="The size changes within the file; ask for one size, to which all frames are scaled.",
            )
        return self._picture(decoded, coded)

    def _unreadable(self, number: int) -> CaseError:
        return CaseError(
            self.case_id,
            f"frame {number} of {len(self._times)} cannot be decoded",
            hint="The file is damaged there; `pulvinar video validate` tells how many frames can be read before it.",
        )

    def _describe(self) -> VideoInfo:
        packets, coded = self.packets, self._coded
        assert coded is not None  # a frame has been decoded
        height, width = self.size or coded.shown
        notes = list(packets.notes)
        if packets.hidden:
            notes.append(f"an edit list hides {packets.hidden} frames")
        if packets.repeated:
            notes.append(f"{packets.repeated} packets repeat a time stamp")
        container, codec = self._facts
        return VideoInfo(
            times=self._times,
            height=height,
            width=width,
            rotation=coded.rotation,
            codec=str(codec),
            container=str(container),
            start=float(packets.stamps[0]) * self._unit,
            edited=packets.hidden > 0,
            notes=tuple(notes),
        )


def _decoded(packet: Any) -> list[Any] | None:
    try:
        return list(packet.decode())
    except av_error_types():
        return None  # This packet is damaged: the next one may not be.


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
