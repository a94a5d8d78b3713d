"""The index of a video: which frames it shows and when, from its packets alone.

Demuxing reads the file once and decodes nothing, so it costs milliseconds where decoding costs seconds. FFmpeg applies
edit lists while demuxing: packets before a cut are marked to be discarded, and are no frames here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from domains.video.decoding.container import av_error_types, packets_of, short, stamp_of, video_stream
from domains.video.decoding.fields import SecondFields, second_fields
from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["PacketIndex", "read_packets"]

_HELD = 8 * 2**20
"""Bytes of packets that are kept of one file."""
_REORDERING = frozenset({"h264", "hevc", "vvc", "vc1", "mpeg1video", "mpeg2video", "av1", "vp9"})
"""Codecs that give back a frame some packets later, and not always equally many."""
_OPENING = 40
"""Packets that any decoder needs to give its first frame: 16 frames may be delayed, of two fields each."""


Numbering = Literal["stamp", "packet", "count"]


@dataclass(frozen=True)
class PacketIndex:
    """Time stamps in the stream's own unit, in the order of showing.

    Attributes:
        stamps: `(frames,)` int64, increasing.
        keys: Those of them at which decoding can start, increasing.
        numbering: What says which number a decoded frame has: its time `stamp`, so that one that cannot be decoded is
            not mistaken for the next; the `packet` that gave it, in AVI, which has no such stamps; or a `count` of
            frames, in AVI with codecs that give back frames later, and where all packets share one time stamp.
        ambiguous: Whether a stamp does not say which packet is meant: all are the same, or they start over.
        hidden: Packets that an edit list hides.
        repeated: Packets whose time stamp another one has already; they are not counted as frames.
        broken: Why demuxing ended before the end of the file; empty where it did not.
        notes: What is unusual and was dealt with.
        order: When each packet is decoded, in the order of the file; empty where one does not say, or two say the same.
        headless: Frames before the first key frame of the file, in the order of showing; they may refer to frames that
            the file does not hold.
        held: The packets themselves, as they lie in the file, where they are few: they need not be read twice.
        opening: The first of them, whether they are few or not.
    """

    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    numbering: Numbering = "stamp"
    ambiguous: bool = False
    hidden: int = 0
    repeated: int = 0
    broken: str = ""
    notes: tuple[str, ...] = field(default=())
    order: tuple[int, ...] = field(default=(), repr=False)
    headless: int = 0
    held: tuple[Any, ...] = field(default=(), repr=False)
    opening: tuple[Any, ...] = field(default=(), repr=False)


def read_packets(container: Any, case_id: str) -> PacketIndex:
    """Walks the packets of the first video stream; none is decoded.

    Raises:
        CaseError: The stream shows no frame.
    """
    walk = _Walk(second_fields(video_stream(container).codec_context))
    try:
        for packet in packets_of(container):
            walk.take(packet)
    except av_error_types() as error:
        walk.broken = short(error)
    if not walk.stamps:
        raise _nothing_shown(walk, case_id)
    return walk.index(container)


@dataclass
class _Walk:
    """What the packets said so far."""

    is_second_field: SecondFields | None
    stamps: list[int] = field(default_factory=list)
    keys: list[int] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    order: list[int | None] = field(default_factory=list)
    hidden: int = 0
    unstamped: int = 0
    fields: int = 0
    restarts: int = 0
    broken: str = ""
    entry: int | None = None
    held: list[Any] = field(default_factory=list)
    bytes_held: int = 0
    positions: list[int | None] = field(default_factory=list)

    def take(self, packet: Any) -> None:
        size, stamp = packet.size, stamp_of(packet)
        if self.bytes_held <= _HELD:
            self.held.append(packet)
            self.bytes_held += size
        if not size:  # the packet that flushes a decoder
            return
        key = packet.is_keyframe
        if key and self.entry is None:
            self.entry = stamp
        if self.is_second_field is not None and self.is_second_field(packet):
            self.fields += 1
        elif packet.is_discard:
            self.hidden += 1
        elif stamp is None:
            self.unstamped += 1
        else:
            decoded = packet.dts
            if decoded is not None and self.order and (before := self.order[-1]) is not None and decoded < before:
                self.restarts += 1
            self.order.append(decoded)
            self.positions.append(packet.pos)
            self.stamps.append(stamp)
            self.durations.append(packet.duration or 0)
            if key:
                self.keys.append(stamp)

    def index(self, container: Any) -> PacketIndex:
        import numpy as np

        unique = np.array(sorted(set(self.stamps)), dtype=np.int64)
        timeless = len(unique) == 1 and len(self.stamps) > 1 and min(self.durations) > 0
        repeated = 0 if timeless else len(self.stamps) - len(unique)
        notes = self.notes(container, timeless, repeated)
        if timeless:
            # Some writers give all frames the time 0, yet each its duration.
            unique = unique[0] + np.cumsum([0, *self.durations[:-1]], dtype=np.int64)
        if (kept := self.before_a_gap(container)) < len(unique):
            notes += (f"packets are missing after frame {kept - 1}: what follows is left out, for its times are lost",)
            unique = unique[:kept]
        known = {one for one in self.order if one is not None}
        order = tuple(sorted(known)) if len(known) == len(self.stamps) else ()
        keys = np.array(sorted(set(self.keys)) or unique[:1], dtype=np.int64)
        whole = self.bytes_held <= _HELD
        return PacketIndex(
            stamps=unique,
            keys=keys[keys <= unique[-1]],
            numbering=_numbering(container, timeless, bool(order)),
            ambiguous=timeless or self.restarts > 0,
            hidden=self.hidden,
            repeated=repeated,
            broken=self.broken,
            notes=notes,
            order=order,
            headless=0 if self.entry is None else int(np.searchsorted(unique, self.entry)),
            held=tuple(self.held) if whole else (),
            opening=tuple(self.held[:_OPENING]),
        )

    def before_a_gap(self, container: Any) -> int:
        """Packets before the first that is missing in AVI: FFmpeg gives those behind it the times of others."""
        if container.format.name != "avi":
            return len(self.stamps)
        listed = [entry.pos for entry in video_stream(container).index_entries if entry.size]
        if len(listed) <= len(self.positions):
            return len(self.stamps)
        header = (self.positions[0] or 0) - listed[0]
        pairs = enumerate(zip(self.positions, listed, strict=False))
        return max(next((at for at, (own, told) in pairs if (own or 0) - told != header), len(self.stamps)), 1)

    def notes(self, container: Any, timeless: bool, repeated: int) -> tuple[str, ...]:
        found = len(self.stamps) + self.hidden + self.unstamped + self.fields
        announced = video_stream(container).frames
        told = [
            (self.hidden, f"an edit list hides {self.hidden} frames"),
            (self.fields, f"{self.fields} frames are coded as two fields"),
            (self.unstamped, f"{self.unstamped} packets without a time stamp"),
            (self.broken, f"the file ends early: {self.broken}"),
            (announced > found, f"the file announces {announced} frames and holds {found}"),
            (timeless, f"all {len(self.stamps)} frames share one time stamp: their durations tell the times"),
            (self.restarts, f"its time stamps start over at {self.restarts} places"),
            (repeated, f"{repeated} packets repeat a time stamp and are left out"),
        ]
        return tuple(note for so, note in told if so)


def _numbering(container: Any, timeless: bool, ordered: bool) -> Numbering:
    if timeless:
        return "count"
    if container.format.name != "avi":
        return "stamp"
    reorders = video_stream(container).codec_context.codec.canonical_name in _REORDERING
    return "packet" if ordered and not reorders else "count"


def _nothing_shown(walk: _Walk, case_id: str) -> CaseError:
    if walk.unstamped and not walk.broken:
        return CaseError(
            case_id,
            f"none of its {walk.unstamped} packets has a time stamp",
            hint="A bare stream of a codec has no times. Wrap it at its rate: ffmpeg -r RATE -i FILE -c copy OUT.mp4",
        )
    why = f": {walk.broken}" if walk.broken else ""
    return CaseError(case_id, f"the video stream shows no frame{why}", hint="Copy or record it again.")
