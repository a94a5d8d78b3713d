"""Which packets of interlaced H.264 are the second field of a frame, and so no frames of their own.

Camcorders and broadcasters may code the two fields of a frame one after the other, each in a packet with a time of its
own, and a whole frame in the next (ITU-T H.264, 7.3.2.1.1 for the sequence parameters, 7.3.3 for the slice header).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from domains.video.decoding.disposable import SLICES, unit_length, units

__all__ = ["SecondFields", "second_fields"]

_SEQUENCE = 7
_WITH_CHROMA = frozenset({100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135})
"""Profiles whose sequence parameters describe chroma and scaling."""
_HEAD = 64
"""Bytes that hold the beginning of any slice header."""


def second_fields(codec: Any) -> SecondFields | None:
    """What tells second fields of a stream from frames; None where frames are never coded as fields.

    Args:
        codec: The codec context of the stream.
    """
    if codec.codec.canonical_name != "h264":
        return None
    extra, length = bytes(codec.extradata or b""), unit_length(codec)
    # MP4 lists the parameters behind eight bytes of its own.
    found = [extra[8:]] if length else units(extra, 0)
    parameters = next((one for one in found if one and one[0] & 31 == _SEQUENCE), b"")
    try:
        frame_number_bits, planes, whole_frames = _sequence(_Bits(parameters[1:]))
    except IndexError:
        return None  # Without parameters there is nothing to decode either.
    return None if whole_frames else SecondFields(length, frame_number_bits, planes)


class SecondFields:
    """Looks at packets in the order of the file.

    Args:
        length: Bytes that tell the length of a unit; 0 where a mark tells its start.
        frame_number_bits: Bits of a frame's number.
        planes: Whether colour planes are coded apart.
    """

    def __init__(self, length: int, frame_number_bits: int, planes: bool) -> None:
        self._length, self._bits, self._planes = length, frame_number_bits, planes
        self._first: tuple[int, int] | None = None

    def __call__(self, packet: Any) -> bool:
        """Whether the packet holds the second field of the frame whose first field the packet before it holds."""
        slices = (one for one in units(bytes(packet), self._length) if one[0] & 31 in SLICES)
        try:
            field = self._field(_Bits(next(slices)[1:_HEAD]))
        except (StopIteration, IndexError):
            field = None  # It is damaged, or no picture.
        second = field is not None and self._first == (field[0], 1 - field[1])
        self._first = None if second else field
        return second

    def _field(self, bits: _Bits) -> tuple[int, int] | None:
        """Number of the frame and 1 for its bottom field; None where a whole frame is coded."""
        for _ in range(3):  # first macroblock, type of the slice, parameters
            bits.unsigned()
        bits.take(2 if self._planes else 0)
        frame = bits.take(self._bits)
        return (frame, bits.take(1)) if bits.take(1) else None


def _sequence(bits: _Bits) -> tuple[int, bool, bool]:
    """Bits of a frame's number, whether colour planes are coded apart, and whether all frames are coded whole."""
    profile, planes = bits.take(8), False
    bits.take(16)
    bits.unsigned()
    if profile in _WITH_CHROMA:
        chroma = bits.unsigned()
        planes = chroma == 3 and bool(bits.take(1))
        bits.unsigned(), bits.unsigned(), bits.take(1)
        if bits.take(1):
            for number in range(12 if chroma == 3 else 8):
                if bits.take(1):
                    _skip_scaling(bits, 16 if number < 6 else 64)
    frame_number_bits = bits.unsigned() + 4
    order = bits.unsigned()
    if order == 0:
        bits.unsigned()
    elif order == 1:
        bits.take(1), bits.signed(), bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    bits.unsigned(), bits.take(1), bits.unsigned(), bits.unsigned()
    return frame_number_bits, planes, bool(bits.take(1))


def _skip_scaling(bits: _Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.signed()) % 256
        last = following or last


class _Bits:
    """Bits of a unit from its first one on. Raises `IndexError` at its end."""

    def __init__(self, content: bytes) -> None:
        self._bits = _read(content)

    def take(self, count: int) -> int:
        """The number that so many bits spell."""
        value = 0
        for _ in range(count):
            value = value << 1 | self._next()
        return value

    def unsigned(self) -> int:
        """An exponential-Golomb number (9.1)."""
        zeros = 0
        while not self._next():
            zeros += 1
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed one (9.1.1)."""
        value = self.unsigned()
        return (value + 1) // 2 if value % 2 else -(value // 2)

    def _next(self) -> int:
        bit = next(self._bits, None)
        if bit is None:
            raise IndexError("the unit ends here")
        return bit


def _read(content: bytes) -> Iterator[int]:
    """Bits, without the bytes that keep a mark from appearing within a unit (7.4.1)."""
    zeros = 0
    for byte in content:
        if zeros >= 2 and byte == 3:
            zeros = 0
            continue
        zeros = zeros + 1 if byte == 0 else 0
        yield from (byte >> shift & 1 for shift in range(7, -1, -1))
