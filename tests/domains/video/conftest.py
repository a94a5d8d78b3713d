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
    skip: int = 0,
    timeless: bool = False,
) -> Path:
    """Writes a video with a frame for each time stamp, in units of `1 / rate`; an edit list cuts the first `skip`.

    With `timeless` all packets say that they are shown at 0, as some writers leave them, and each its duration.
    """
    import av

    muxing = {"avoid_negative_ts": "disabled", "use_editlist": "1"} if skip else {}
    with av.open(str(path), "w", format=container, options=muxing) as file:
        stream: Any = file.add_stream(codec, rate=rate, options=options or {})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.time_base = Fraction(1, rate)
        stream.codec_context.time_base = Fraction(1, rate)
        stream.codec_context.gop_size = between_keys
        if rotation:
            stream.set_display_rotation(rotation)
        packets = []
        for number, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24")
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


@pytest.fixture(scope="session")
def read_number() -> Callable[[NDArray[np.uint8]], int]:
    return number_of


@pytest.fixture(scope="session")
def make_video() -> Callable[..., Path]:
    pytest.importorskip("av")
    return write_video
