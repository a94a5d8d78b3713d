"""Videos made for tests: each frame shows its own number, so that a wrong frame cannot pass for the right one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

SIDE = 16
"""Side of the squares that spell a number; coding blurs their edges only."""
BITS = 8
HEIGHT, WIDTH = 3 * SIDE, BITS * SIDE


def picture(number: int) -> NDArray[np.uint8]:
    """`(48, 128, 3)` uint8: the number in binary in the middle row, white for 1; a bright bar marks the top."""
    image = np.full((HEIGHT, WIDTH, 3), 64, np.uint8)
    image[:SIDE] = (200, 120, 60)
    for bit in range(BITS):
        image[SIDE : 2 * SIDE, bit * SIDE : (bit + 1) * SIDE] = 235 if number >> bit & 1 else 20
    return image


def number_of(image: NDArray[np.uint8]) -> int:
    """The number that a frame shows, whatever its scale."""
    height, width = image.shape[:2]
    middle = image[height // 2]
    centres = ((np.arange(BITS) + 0.5) * width / BITS).astype(int)
    return int(sum(1 << bit for bit, at in enumerate(centres) if middle[at].mean() > 128))


def write_video(
    path: Path,
    stamps: Sequence[int],
    *,
    codec: str = "libx264",
    container: str | None = None,
    rate: int = 25,
    between_keys: int = 12,
    options: dict[str, str] | None = None,
    rotation: int = 0,
    mirror: tuple[bool, bool] = (False, False),
    size: tuple[int, int] = (HEIGHT, WIDTH),
    aspect: Fraction | None = None,
    muxing: dict[str, str] | None = None,
    skip: int = 0,
    timeless: bool = False,
) -> Path:
    """Writes a video with a frame for each time stamp, in units of `1 / rate`; an edit list cuts the first `skip`.

    `rotation` is counter-clockwise, `mirror` says whether columns and rows are reversed after it, `size` is a height
    and a width, `aspect` how wide pixels are to their height. With `timeless` all packets say that they are shown at 0,
    as some writers leave them, and each its duration.
    """
    import av

    cut = {"avoid_negative_ts": "disabled", "use_editlist": "1"} if skip else {}
    with av.open(str(path), "w", format=container, options=cut | (muxing or {})) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options or {})
        (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        stream.time_base = Fraction(1, rate)
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size = between_keys
        if rotation or any(mirror):
            stream.set_display_rotation(rotation, hflip=mirror[0], vflip=mirror[1])
        packets = []
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(size[1], size[0])
            frame.pts, frame.time_base = stamp, Fraction(1, rate)
            packets += stream.encode(frame)
        packets += stream.encode()
        for packet in packets:
            if skip:
                shift = int(skip / rate / packet.time_base)
                packet.pts, packet.dts = packet.pts - shift, packet.dts - shift
            if timeless:
                packet.pts = packet.dts = 0
            file.mux(packet)
    return path


def write_packed(path: Path, count: int, *, between: int) -> Path:
    """MPEG-4 in AVI as DivX packed it: a frame and the first B-frame after it in one packet, an empty one at the end.

    Args:
        path: Where to write.
        count: Frames.
        between: B-frames between two others.
    """
    import av

    encoder: Any = av.CodecContext.create("mpeg4", "w")
    encoder.width, encoder.height, encoder.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, 25), Fraction(25)
    encoder.gop_size, encoder.max_b_frames, encoder.options = 12, between, {"bf": str(between)}
    coded: list[tuple[bytes, bool]] = []
    for number in [*range(count), None]:
        frame = None if number is None else av.VideoFrame.from_ndarray(_noisy(number), format="rgb24")
        if frame is not None:
            frame.pts, frame.time_base = number, Fraction(1, 25)
        coded += [(bytes(packet), packet.is_keyframe) for packet in encoder.encode(frame)]

    def is_b(content: bytes) -> bool:
        return content[content.rfind(b"\0\0\1\xb6") + 4] >> 6 == 2

    packed: list[tuple[bytes, bool]] = []
    at = 0
    while at < len(coded):
        after = at + 1
        while after < len(coded) and is_b(coded[after][0]):
            after += 1
        (content, key), others = coded[at], [one for one, _ in coded[at + 1 : after]]
        empty = [b"\0\0\1\xb6\x56\0\0"] if others else []
        packed.append((content + b"".join(others[:1]), key))
        packed += [(one, False) for one in others[1:] + empty]
        at = after
    first, key = packed[0]
    at = first.index(b"\0\0\1\xb2")  # what the encoder is called: it tells decoders that frames are packed
    packed[0] = (first[:at] + b"\0\0\1\xb2DivX503b1393p" + first[first.index(b"\0\0\1", at + 4) :], key)
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number, (content, is_key) in enumerate(packed):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.is_keyframe = stream, Fraction(1, 25), is_key
            packet.pts = packet.dts = number
            file.mux(packet)
    return path


def _noisy(number: int) -> NDArray[np.uint8]:
    """The picture of a number, whose lowest third is noise: packets of real videos are never as small as empty ones."""
    image = picture(number)
    image[2 * SIDE :] = np.random.default_rng(number).integers(0, 80, image[2 * SIDE :].shape)
    return image


@pytest.fixture(scope="session")
def read_number() -> Callable[[NDArray[np.uint8]], int]:
    return number_of


@pytest.fixture(scope="session")
def make_packed() -> Callable[..., Path]:
    pytest.importorskip("av")
    return write_packed


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    pytest.importorskip("av")
    return write_video
