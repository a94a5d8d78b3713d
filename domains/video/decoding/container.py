"""Opening a file and walking its packets; what is no video ends with the reason."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.errors import CaseError

__all__ = ["av_error_types", "open_container", "packets_of", "short", "stamp_of", "video_stream"]


def av_error_types() -> tuple[type[BaseException], ...]:
    """What PyAV raises for a file that is not what it should be."""
    import av

    return (av.error.FFmpegError, ValueError, OSError, EOFError)


def open_container(path: Path, case_id: str) -> Any:
    """The opened file with a video stream. Raises `CaseError` that says why it is none."""
    import av

    _check_file(path, case_id)
    try:
        container = av.open(str(path), metadata_errors="ignore")
    except av_error_types() as error:
        raise CaseError(
            case_id,
            f"no video can be opened in {path.name}: {short(error)}",
            hint="It is cut off, damaged or no video; `ffprobe FILE` says more.",
        ) from error
    if not len(container.streams):
        container.close()
        raise CaseError(
            case_id,
            f"no video can be opened in {path.name}: it describes no stream at all",
            hint="It was cut off before its index, or the recording was never ended: copy it again from its source.",
        )
    stream = video_stream(container)
    if stream is None:
        container.close()
        raise CaseError(case_id, f"{path.name} holds no video stream", hint="It may be sound or text only.")
    if stream.codec_context is None:
        container.close()
        raise CaseError(
            case_id,
            f"the video of {path.name} is in a format that cannot be decoded here",
            hint="Convert it, for example with: ffmpeg -i FILE -c:v libx264 OUT.mp4",
        )
    return container


def video_stream(container: Any) -> Any:
    """The first video stream that is not the picture of a cover; None where there is none."""
    from av.stream import Disposition

    streams = (one for one in container.streams.video if not one.disposition & Disposition.attached_pic)
    return next(streams, None)


def packets_of(container: Any) -> Iterator[Any]:
    """Packets of the video stream from where the container stands, at last the one that flushes a decoder.

    DivX and Xvid packed two frames of MPEG-4 into one packet of AVI, and an empty one after them: here each has one.
    """
    stream = video_stream(container)
    packets: Iterator[Any] = container.demux(stream)
    packed = container.format.name == "avi" and stream.codec_context.codec.canonical_name == "mpeg4"
    return _unpacked(packets, stream) if packed else packets


def stamp_of(packet: Any) -> int | None:
    """When a packet is shown, in the stream's own unit; when it is decoded, where the file does not say."""
    stamp: int | None = packet.pts if packet.pts is not None else packet.dts
    return stamp


def short(error: BaseException) -> str:
    """What went wrong, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200]


def _check_file(path: Path, case_id: str) -> None:
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode) and found.st_size:
            path.open("rb").close()
            return
    except FileNotFoundError:
        raise CaseError(case_id, f"there is no file {path.name}", hint="Check the path.") from None
    except OSError as error:
        raise CaseError(
            case_id, f"{path.name} cannot be read: {short(error)}", hint="Check its rights and the disk it lies on."
        ) from error
    if stat.S_ISDIR(found.st_mode):
        raise CaseError(case_id, f"{path.name} is a folder", hint="Name the files in it.")
    if not stat.S_ISREG(found.st_mode):
        raise CaseError(case_id, f"{path.name} is a device or a pipe", hint="Write what it gives to a file first.")
    raise CaseError(case_id, "the file is empty", hint="Copy it again from its source.")


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
