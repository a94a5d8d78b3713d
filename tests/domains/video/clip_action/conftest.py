"""Small videos for tests of clips: a bright square that moves, or stands still."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

HEIGHT, WIDTH, RATE = 32, 48, 10


def write_square(path: Path, *, moves: bool, frames: int = 12, seed: int = 0, rate: int = RATE) -> Path:
    """A square of 10 pixels at a random place, which moves to and fro or stands still, before a grey ground."""
    import av

    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(2, HEIGHT - 12)), int(rng.integers(2, 14))
    with av.open(str(path), "w") as file:
        stream: Any = file.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(frames):
            image = np.full((HEIGHT, WIDTH, 3), 90, np.uint8)
            shift = (number * 5) % 22 if moves else 0
            image[top : top + 10, left + shift : left + shift + 10] = (240, 220, 180)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return path


@pytest.fixture
def square() -> Callable[..., Path]:
    return write_square


@pytest.fixture(scope="session")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve videos of two actions in folders, three of each source."""
    root = tmp_path_factory.mktemp("squares")
    for action in ("still", "moving"):
        (root / action).mkdir()
    for number in range(12):
        action = ("still", "moving")[number % 2]
        name = f"g{number // 3}_{number:02d}.mp4"
        write_square(root / action / name, moves=action == "moving", seed=number)
    return root
