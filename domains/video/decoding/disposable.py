"""Whether any other frame refers to a frame of H.264, told by its packet alone.

FFmpeg can leave out such frames itself (`skip_frame`), but then it also passes over damaged packets of others without
a word: what refers to those would be shown wrong. So they are told apart here, and errors of all others are seen.
`nal_ref_idc` and the types of NAL units: ITU-T H.264, 7.3.1 and table 7-1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["disposal"]

_SLICES = frozenset({1, 5})
_PARAMETERS = frozenset({7, 8})


def disposal(codec: Any) -> Callable[[Any], bool] | None:
    """What tells of a packet whether decoding can go on without it; None where only the decoder knows.

    Args:
        codec: The codec context of the stream.
    """
    if codec.codec.canonical_name != "h264":
        return None
    extra = bytes(codec.extradata or b"")
    # MP4 writes the length of a unit before it, in so many bytes; streams mark where one starts.
    length = (extra[4] & 3) + 1 if len(extra) > 4 and extra[0] == 1 else 0

    def disposable(packet: Any) -> bool:
        content = bytes(packet)
        for header in _headers_by_length(content, length) if length else _headers_by_mark(content):
            if header & 31 in _PARAMETERS:
                return False
            if header & 31 in _SLICES:
                return header >> 5 & 3 == 0
        return False

    return disposable


def _headers_by_length(content: bytes, length: int) -> Iterator[int]:
    at = 0
    while at + length < len(content):
        yield content[at + length]
        at += length + int.from_bytes(content[at : at + length], "big")


def _headers_by_mark(content: bytes) -> Iterator[int]:
    at = content.find(b"\0\0\1")
    while 0 <= at < len(content) - 3:
        yield content[at + 3]
        at = content.find(b"\0\0\1", at + 3)
