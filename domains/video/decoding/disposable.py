"""Whether any other frame refers to a frame of H.264, told by its packet alone.

FFmpeg can leave out such frames itself (`skip_frame`), but then it also passes over damaged packets of others without
a word: what refers to those would be shown wrong. So they are told apart here, and errors of all others are seen.
`nal_ref_idc` and the types of NAL units: ITU-T H.264, 7.3.1 and table 7-1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["SLICES", "disposal", "unit_length", "units"]

SLICES = frozenset({1, 5})
"""Types of units that hold a piece of a picture."""
_PARAMETERS = frozenset({7, 8})


def disposal(codec: Any) -> Callable[[Any], bool] | None:
    """What tells of a packet whether decoding can go on without it; None where only the decoder knows.

    Args:
        codec: The codec context of the stream.
    """
    if codec.codec.canonical_name != "h264":
        return None
    length = unit_length(codec)

    def disposable(packet: Any) -> bool:
        for unit in units(bytes(packet), length):
            if unit[0] & 31 in _PARAMETERS:
                return False
            if unit[0] & 31 in SLICES:
                return unit[0] >> 5 & 3 == 0
        return False

    return disposable


def unit_length(codec: Any) -> int:
    """Bytes that tell the length of a unit before it, as MP4 writes them; 0 where a mark tells its start."""
    extra = bytes(codec.extradata or b"")
    return (extra[4] & 3) + 1 if len(extra) > 4 and extra[0] == 1 else 0


def units(content: bytes, length: int) -> Iterator[bytes]:
    """NAL units of a packet from their header on; each may reach beyond its end."""
    at = 0 if length else content.find(b"\0\0\1")
    while 0 <= at < len(content) - max(length, 3):
        if length:
            yield content[at + length : at + length + _SEEN]
            at += length + int.from_bytes(content[at : at + length], "big")
        else:
            yield content[at + 3 : at + 3 + _SEEN]
            at = content.find(b"\0\0\1", at + 3)


_SEEN = 512
"""Bytes of a unit that are looked at: headers and parameters lie at its beginning."""
