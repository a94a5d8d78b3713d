"""The index of a video: which frames it shows and when, from its packets alone.

Demuxing reads the file once and decodes nothing, so it costs milliseconds where decoding costs seconds. FFmpeg applies
edit lists while demuxing: packets before a cut are marked to be discarded, and are no frames here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import CaseError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "PacketIndex",
    "av_error_types",
    "one_frame_a_packet",
    "open_container",
    "packets_of",
    "read_packets",
    "stamp_of",
]

_HELD = 8 * 2**20
"""Bytes of packets that are kept of one file."""
_OPENING = 40
"""Packets that any decoder needs to give its first frame: 16 frames may be delayed, of two fields each."""


@dataclass(frozen=True)
class PacketIndex:
    """Time stamps in the stream's own unit, in the order of showing.

    Attributes:
        stamps: `(frames,)` int64, increasing.
        keys: Those of them at which decoding can start, increasing.
        hidden: Packets that an edit list hides.
        repeated: Packets whose time stamp another one has already; they are not counted as frames.
        broken: Why demuxing ended before the end of the file; empty where it did not.
        counted: Whether all packets share one time stamp: then frames are counted, and `stamps` add up their durations.
        order: When each packet is decoded, in the order of the file; empty where one does not say, or two say the same.
        headless: Frames before the first key frame of the file, in the order of showing; they may refer to frames that
            the file does not hold.
        held: The packets themselves, as they lie in the file, where they are few: they need not be read twice.
        opening: The first of them, whether they are few or not.
    """

    stamps: NDArray[np.int64]
    keys: NDArray[np.int64]
    hidden: int = 0
    repeated: int = 0
    broken: str = ""
    notes: tuple[str, ...] = field(default=())
    counted: bool = False
    order: tuple[int, ...] = field(default=(), repr=False)
    headless: int = 0
    held: tuple[Any, ...] = field(default=(), repr=False)
    opening: tuple[Any, ...] = field(default=(), repr=False)


def av_error_types() -> tuple[type[BaseException], ...]:
    """What PyAV raises for a file that is not what it should be."""
    import av

    return (av.error.FFmpegError, ValueError, OSError, EOFError)


def open_container(path: Path, case_id: str) -> Any:
    """The opened file with a video stream. Raises `CaseError` that says why it is none."""
    import av

    if not path.is_file():
        raise CaseError(case_id, f"there is no file {path.name}", hint="Check the path.")
    if path.stat().st_size == 0:
        raise CaseError(case_id, "the file is empty", hint="Copy it again from its source.")
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av_error_types() as error:
        raise CaseError(
            case_id,
            f"no video can be opened in {path.name}: {_short(error)}",
            hint="It is cut off, damaged or no video; `ffprobe FILE` says more.",
        ) from error
    if not len(container.streams):
        container.close()
        raise CaseError(
            case_id,
            f"no video can be opened in {path.name}: it describes no stream at all",
            hint="It was cut off before its index, or the recording was never ended: copy it again from its source.",
        )
    if not container.streams.video:
        container.close()
        raise CaseError(case_id, f"{path.name} holds no video stream", hint="It may be sound or text only.")
    if container.streams.video[0].codec_context is None:
        container.close()
        raise CaseError(
            case_id,
            f"the video of {path.name} is in a format that cannot be decoded here",
            hint="Convert it, for example with: ffmpeg -i FILE -c:v libx264 OUT.mp4",
        )
    return container


def packets_of(container: Any) -> Iterator[Any]:
    """Packets of the first video stream from where the container stands, at last the one that flushes a decoder.

    DivX and Xvid packed two frames of MPEG-4 into one packet of AVI, and an empty one after them: here each has one.
    """
    stream = container.streams.video[0]
    packets: Iterator[Any] = container.demux(stream)
    return _unpacked(packets, stream) if one_frame_a_packet(container) else packets


def one_frame_a_packet(container: Any) -> bool:
    """Whether the decoder gives exactly one frame for each packet, at most one packet later: MPEG-4 in AVI does."""
    codec = container.streams.video[0].codec_context.codec
    return container.format.name == "avi" and codec.canonical_name == "mpeg4"


def _unpacked(packets: Iterator[Any], stream: Any) -> Iterator[Any]:
    from av.bitstream import BitStreamFilterContext

    unpack = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in packets:
        if not packet.size:
            yield packet
            continue
        for one in unpack.filter(packet):
            one.stream = stream
            yield one


def read_packets(container: Any, case_id: str) -> PacketIndex:
    """Walks the packets of the first video stream; none is decoded.

    Raises:
        CaseError: The stream shows no frame.
    """
    import numpy as np

    stamps: list[int] = []
    keys: list[int] = []
    durations: list[int] = []
    order: list[int | None] = []
    hidden, unstamped, broken = 0, 0, ""
    entry: int | None = None
    held: list[Any] = []
    bytes_held = 0
    try:
        for packet in packets_of(container):
            size = packet.size
            if bytes_held <= _HELD:
                held.append(packet)
                bytes_held += size
            if not size:  # the packet that flushes a decoder
                continue
            stamp = stamp_of(packet)
            if entry is None and packet.is_keyframe:
                entry = stamp
            if packet.is_discard:
                hidden += 1
                continue
            if stamp is None:
                unstamped += 1
                continue
            stamps.append(stamp)
            order.append(packet.dts)
            durations.append(packet.duration or 0)
            if packet.is_keyframe:
                keys.append(stamp)
    except av_error_types() as error:
        broken = _short(error)
    if not stamps:
        why = f": {broken}" if broken else (": no packet has a time stamp" if unstamped else "")
        raise CaseError(case_id, f"the video stream shows no frame{why}", hint="Copy or record it again.")
    unique = np.unique(np.array(stamps, dtype=np.int64))
    notes = []
    if unstamped:
        notes.append(f"{unstamped} packets without a time stamp")
    if broken:
        notes.append(f"the file ends early: {broken}")
    counted = len(unique) == 1 and len(stamps) > 1 and min(durations) > 0
    if counted:
        # Some writers give all frames the time 0, yet each its duration.
        notes.append(f"all {len(stamps)} frames share one time stamp: their durations tell the times")
        unique = unique[0] + np.cumsum([0, *durations[:-1]], dtype=np.int64)
    return PacketIndex(
        stamps=unique,
        keys=np.unique(np.array(keys or [unique[0]], dtype=np.int64)),
        hidden=hidden,
        repeated=len(stamps) - len(unique),
        broken=broken,
        notes=tuple(notes),
        counted=counted,
        order=tuple(sorted(known)) if len(known := {one for one in order if one is not None}) == len(order) else (),
        headless=0 if entry is None else int(np.searchsorted(unique, entry)),
        held=tuple(held) if bytes_held <= _HELD else (),
        opening=tuple(held[:_OPENING]),
    )


def stamp_of(packet: Any) -> int | None:
    """When a packet is shown, in the stream's own unit; when it is decoded, where the file does not say."""
    stamp: int | None = packet.pts if packet.pts is not None else packet.dts
    return stamp


def _short(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200]
