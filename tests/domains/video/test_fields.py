"""Frames that are coded as two fields, as camcorders and broadcasters write them, are frames and not twice as many."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domains.video.decoding import open_video

COLUMNS, ROWS = 8, 4
"""Macroblocks of a frame; a field has half of the rows."""
GROUP = 6
"""Frames from one key frame to the next."""


class Bits:
    """Writes the units of H.264 by hand: no encoder at hand codes fields apart."""

    def __init__(self) -> None:
        self.bits: list[int] = []

    def put(self, count: int, value: int) -> Bits:
        self.bits += [value >> (count - 1 - at) & 1 for at in range(count)]
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            length = (value + 1).bit_length()
            self.put(length - 1, 0).put(length, value + 1)
        return self

    def unit(self, header: int) -> bytes:
        self.put(1, 1).put(-len(self.bits) % 8, 0)
        written, zeros = bytearray([0, 0, 0, 1, header]), 0
        for byte in np.packbits(np.array(self.bits, np.uint8)).tobytes():
            if zeros >= 2 and byte <= 3:
                written.append(3)
                zeros = 0
            written.append(byte)
            zeros = zeros + 1 if byte == 0 else 0
        return bytes(written)


def parameters() -> bytes:
    sequence = Bits().put(8, 77).put(8, 0).put(8, 30).golomb(0, 0, 2, 1).put(1, 0).golomb(COLUMNS - 1, ROWS // 2 - 1)
    picture = Bits().golomb(0, 0).put(2, 0).golomb(0, 0, 0).put(3, 0).golomb(0, 0, 0).put(3, 0)
    return sequence.put(5, 0b01100).unit(0x67) + picture.unit(0x68)


def field(luma: NDArray[np.uint8], number: int, bottom: int) -> bytes:
    """One field, uncompressed."""
    first = number % GROUP == 0 and not bottom
    slice_ = Bits().golomb(0, 7, 0).put(4, number % GROUP).put(2, 2 + bottom)
    slice_ = slice_.golomb(number // GROUP % 2).put(2, 0) if first else slice_.put(1, 0)
    slice_.golomb(0)
    for row in range(ROWS // 2):
        for column in range(COLUMNS):
            slice_.golomb(25).put(-len(slice_.bits) % 8, 0)
            block = luma[16 * row : 16 * row + 16, 16 * column : 16 * column + 16]
            slice_.bits += np.unpackbits(np.concatenate([block.ravel(), np.full(128, 128, np.uint8)])).tolist()
    return slice_.unit(0x65 if first else 0x61)


def coded(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Both fields of frames that spell their number, as in other videos of these tests."""
    begin = b"\0\0\0\1\x09\x10"
    for number in range(count):
        luma = np.full((16 * ROWS, 16 * COLUMNS), 60, np.uint8)
        for bit in range(COLUMNS):
            luma[16:48, 16 * bit : 16 * bit + 16] = 230 if number >> bit & 1 else 30
        head = parameters() if number % GROUP == 0 else b""
        yield begin + head + field(luma[::2], number, 0), begin + field(luma[1::2], number, 1)


@pytest.mark.parametrize("apart", [True, False], ids=["a time for each field", "a time for both"])
@pytest.mark.parametrize("name", ["fields.ts", "fields.mkv"])
@pytest.mark.parametrize("held", [8 * 2**20, 0], ids=["packets held", "packets read again"])
def test_two_fields_are_one_frame(
    tmp_path: Path,
    read_number: Callable[[Any], int],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    apart: bool,
    held: int,
) -> None:
    import av

    monkeypatch.setattr("domains.video.decoding.packets._HELD", held)
    (tmp_path / "bare.h264").write_bytes(b"".join(first + second for first, second in coded(2)))
    with av.open(str(tmp_path / "bare.h264")) as bare, av.open(str(tmp_path / name), "w") as file:
        stream: Any = file.add_stream_from_template(bare.streams.video[0])
        for number, fields in enumerate(coded(14)):
            for second, content in enumerate(fields if apart else [b"".join(fields)]):
                packet = av.Packet(content)
                packet.stream, packet.time_base = stream, Fraction(1, 50)
                packet.pts = packet.dts = 2 * number + second
                packet.is_keyframe = number % GROUP == 0 and not second
                file.mux(packet)
    with open_video(tmp_path / name) as video:
        assert video.info.times == pytest.approx(np.arange(14) / 25, abs=1e-3)
        assert [read_number(frame.image) for frame in video.stream()] == list(range(14))
        for numbers in ([0], [5], [6], [7], [13], [2, 3, 9], [1, 12]):
            images = video.read(numbers).images
            assert [read_number(image) for image in images] == numbers
            # Both fields are there: rows of a stripe do not alternate.
            assert np.abs(images[:, 24:40:2].astype(int) - images[:, 25:41:2]).max() < 3
