"""Decoded frames of a file by their numbers, starting where it is nearest and decoding no more than is needed."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domains.video.decoding.container import av_error_types, open_container, packets_of, stamp_of, video_stream
from domains.video.decoding.disposable import disposal
from domains.video.decoding.packets import PacketIndex, read_packets
from domains.video.decoding.pictures import Coded
from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["FrameDecoder"]


class FrameDecoder:
    """The decoder of one open file.

    Args:
        path: The file.
        case_id: What errors name.
        threads: Decoder threads; 0 lets FFmpeg choose.

    Attributes:
        stream: The first video stream.
        container: The open file.
        packets: What the file holds.
        coded: How its first frame is coded; None until one has been decoded.

    Raises:
        CaseError: The file is no video that can be read.
    """

    def __init__(self, path: Path, case_id: str, threads: int) -> None:
        self.path, self.case_id, self._threads = path, case_id, threads
        self.coded: Coded | None = None
        self._begun: tuple[tuple[Any, ...], int] = (), 0
        self._open()
        try:
            self.packets: PacketIndex = read_packets(self.container, case_id)
            self._delay = int(self.stream.codec_context.has_b_frames)
            self._disposable = disposal(self.stream.codec_context)
            if self.packets.headless and self.packets.numbering == "stamp":
                self._leave_out_what_has_no_key()
            stamps = self.packets.stamps.tolist()
            self._numbers: dict[int, int] = dict(zip(stamps, range(len(stamps)), strict=True))
        except BaseException:
            self.container.close()
            raise

    def _open(self) -> None:
        self.container: Any = open_container(self.path, self.case_id)
        self.stream: Any = video_stream(self.container)
        self.stream.codec_context.thread_count = self._threads
        # With a single thread, the machinery of several still costs a fourth of the time.
        self.stream.thread_type = "NONE" if self._threads == 1 else "AUTO"

    def close(self) -> None:
        """Frees the decoder and the file."""
        self.container.close()
        self._begun = (), 0
        self.packets = replace(self.packets, held=(), opening=())

    def begin(self) -> Any:
        """Decodes until there is one frame, and remembers how far that went. Gives that frame.

        Raises:
            CaseError: Not one can be decoded.
        """
        for packets in (self.packets.opening, self._packets(None)):
            self.stream.codec_context.flush_buffers()
            self.stream.codec_context.skip_frame = "DEFAULT"
            damaged = False
            for fed, packet in enumerate(packets, 1):
                decoded = _decoded(packet)
                damaged = damaged or decoded is None
                if decoded:
                    self.coded = self.coded or Coded.of(decoded[0])
                    if self._begins_with_a_key() and not damaged:
                        self._begun = tuple(decoded), fed
                    return decoded[0]
        raise CaseError(
            self.case_id,
            "not one frame can be decoded",
            hint="The file is damaged, or its codec is not built in; `ffmpeg -i FILE -f null -` says more.",
        )

    def frames(self, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Decoded frames of increasing numbers.

        It seeks where at least one frame lies between the last one and the key frame of the next.

        Raises:
            CaseError: One of them cannot be decoded.
        """
        import numpy as np

        stamps, keys = self.packets.stamps, self.packets.keys
        key = np.maximum(np.searchsorted(keys, stamps[wanted], side="right") - 1, 0)
        seeks = np.searchsorted(stamps, keys[key])[1:] > wanted[:-1] + 1
        starts = [0, *(np.flatnonzero(seeks) + 1).tolist(), len(wanted)]
        for start, end in itertools.pairwise(starts):
            if start < end:
                yield from self._run(wanted[start:end], int(key[start]))

    def unreadable(self, number: int) -> CaseError:
        """The error of a frame that cannot be decoded."""
        return CaseError(
            self.case_id,
            f"frame {number} of {len(self.packets.stamps)} cannot be decoded",
            hint="The file is damaged there; `pulvinar video validate` tells how many frames can be read before it.",
        )

    def _run(self, wanted: NDArray[np.int64], key: int) -> Iterator[tuple[int, Any]]:
        """Decoded frames of increasing numbers, from one start of the decoder."""
        decoder = self._starting_before(key, wanted)
        for at in wanted.tolist():
            reached = next((found for found in decoder if found[0] >= at), None)
            if reached is None or reached[0] != at:
                raise self.unreadable(at)
            yield reached

    def _starting_before(self, key: int, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Numbered frames that begin no later than the first one wanted.

        Containers without an index (transport streams) may be entered behind the key frame that was asked for: then an
        earlier one is tried, and at last the beginning of the file. Where a stamp does not say which packet is meant,
        that is the only start.
        """
        starts = [None] if self.packets.ambiguous else [key, max(key - 1, 0), None]
        for start in dict.fromkeys(starts):
            decoder = self._numbered(start, wanted)
            first = next(decoder, None)
            if first is not None and first[0] <= wanted[0]:
                return itertools.chain([first], decoder)
        return iter(())

    def _numbered(self, key: int | None, wanted: NDArray[np.int64]) -> Iterator[tuple[int, Any]]:
        """Decoded frames from a key frame on (None: from the beginning), each with its number in the file."""
        stamps, order, last = self.packets.stamps, self.packets.order, len(self.packets.stamps) - 1
        stamp = None if key is None else int(self.packets.keys[key])
        if self.packets.numbering == "count":
            first = 0 if stamp is None else int(stamps.searchsorted(stamp))
            counted = zip(range(first, last + 1), self._from(stamp, None), strict=False)
            yield from ((number, decoded) for number, decoded in counted if decoded is not None)
        elif self.packets.numbering == "packet":
            giving = {order[place] for number in wanted.tolist() if (place := number + self._delay) <= last}
            for decoded in self._from(stamp, giving):
                if decoded is not None:
                    # The last frame comes out when there are no more packets.
                    number = last if decoded.dts is None else bisect_left(order, decoded.dts) - self._delay
                    yield max(number, 0), decoded
        else:
            for decoded in self._from(stamp, set(stamps[wanted].tolist())):
                if decoded is not None:
                    own = self._numbers.get(decoded.pts if decoded.pts is not None else decoded.dts)
                    if own is not None:
                        yield own, decoded

    def _from(self, stamp: int | None, wanted: set[int] | None) -> Iterator[Any | None]:
        """Decoded frames from a key frame on.

        None stands for a frame that is damaged, or comes after one that is: it may refer to it. A key frame does not.

        Args:
            stamp: Of the key frame; None begins with the file.
            wanted: Stamps of the frames that are wanted, or of the packets that give them; None decodes all.
        """
        left, sound, progressive, done = set(wanted or ()), True, False, False
        by_packet = self.packets.numbering == "packet"
        skipping = None
        begun, packets = self._packets_from(stamp)
        for packet in itertools.chain([None] if begun else [], packets):
            if packet is None:
                decoded: tuple[Any, ...] | None = begun
            elif wanted and not left and progressive and not by_packet and stamp_of(packet) in self._numbers:
                # All that is wanted lies in the decoder: it need not decode others to give it back.
                decoded, done = tuple(self.stream.codec_context.decode(None)), True
            else:
                own = packet.dts if by_packet else packet.pts
                needed = wanted is None or own is None or own in wanted
                # Nothing refers to such frames: those that nobody wants need not be decoded on the way to others.
                if self._disposable is not None and not needed and progressive and self._disposable(packet):
                    continue
                skip = "DEFAULT" if needed or self._disposable is not None else "NONREF"
                if skip != skipping:
                    self.stream.codec_context.skip_frame = skipping = skip
                decoded = _decoded(packet)
                left.discard(stamp_of(packet))
            if decoded is None and wanted is None:
                return  # Nobody knows how many frames are missing now.
            sound = sound and decoded is not None
            for frame in decoded or ():
                if self.coded is None:
                    self.coded = Coded.of(frame)
                progressive = not frame.interlaced_frame
                sound = (sound or frame.key_frame) and not frame.is_corrupt
                yield frame if sound else None
            if done:
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
            self.stream.codec_context.flush_buffers()
            yield from held[first:]
            return
        if stamp is None:
            self.container.close()
            self._open()
        else:
            self.container.seek(stamp, stream=self.stream, backward=True, any_frame=False)
        try:
            yield from packets_of(self.container)
        except av_error_types():
            return  # The file ends here.

    def _begins_with_a_key(self) -> bool:
        """Whether the first packet of the file is the key frame at which its first shown frame is decoded."""
        held, keys, stamps = self.packets.held, self.packets.keys, self.packets.stamps
        return bool(held) and held[0].is_keyframe and stamp_of(held[0]) == keys[0] == stamps[0]

    def _leave_out_what_has_no_key(self) -> None:
        """A recording that begins in the middle shows nothing before the first frame that needs no earlier one."""
        first, stamps = self.begin(), self.packets.stamps
        place = int(stamps.searchsorted(first.pts if first.pts is not None else stamps[0]))
        if 0 < place <= self.packets.headless:
            note = f"{place} frames before the first that can be decoded refer to ones that the file does not hold"
            self._begun = (), 0
            self.packets = replace(self.packets, stamps=stamps[place:], notes=(*self.packets.notes, note))


def _decoded(packet: Any) -> tuple[Any, ...] | None:
    try:
        return tuple(packet.decode())
    except av_error_types():
        return None  # This packet is damaged: the next one may not be.
