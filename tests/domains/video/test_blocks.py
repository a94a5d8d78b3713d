"""Blocks hold every frame in order, share what they are told to, and keep memory for one block only."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from domains.video.decoding import blocks, open_video
from domains.video.overlay.encoder import VideoEncoder
from pipelines.errors import CaseError

Make = Callable[..., Path]


@pytest.fixture(scope="module", params=["pyav", "decord"])
def backend(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip("av" if request.param == "pyav" else "decord")
    return request.param


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory, make_video: Make) -> Path:
    return make_video(tmp_path_factory.mktemp("blocks") / "plain.mp4", stamps=list(range(40)))


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        pytest.param({"count": 16}, [range(16), range(16, 32), range(32, 40)], id="a shorter last one"),
        pytest.param({"count": 20}, [range(20), range(20, 40)], id="no empty last one"),
        pytest.param({"count": 64}, [range(40)], id="longer than the video"),
        pytest.param(
            {"count": 16, "overlap": 4}, [range(16), range(12, 28), range(24, 40)], id="neighbours share frames"
        ),
        pytest.param({"count": 3, "start": 4, "stop": 20, "step": 5}, [(4, 9, 14), (19,)], id="a piece in steps"),
        pytest.param({"count": 1, "stop": 2}, [(0,), (1,)], id="one by one"),
    ],
)
def test_blocks_hold_each_frame_in_order(
    path: Path, backend: Any, read_number: Callable[[Any], int], settings: dict[str, int], expected: list[range]
) -> None:
    with open_video(path, backend=backend) as video:
        found = list(blocks(video, **settings))
        assert [list(block.indices) for block in found] == [list(one) for one in expected]
        for block in found:
            assert [read_number(image) for image in block.images] == list(block.indices)
            assert block.times == pytest.approx(block.indices / 25, abs=1e-3)
            assert block.backend == backend


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        pytest.param({"count": 0}, "count 0", id="no frames"),
        pytest.param({"count": 4, "overlap": 4}, "overlap 4", id="nothing new in a block"),
        pytest.param({"count": 4, "start": 40}, "the video has 40", id="after the end"),
        pytest.param({"count": 4, "step": 0}, "steps of 0", id="no step"),
    ],
)
def test_what_cannot_be_is_told_before_anything_is_read(path: Path, settings: dict[str, int], told: str) -> None:
    with open_video(path) as video, pytest.raises(ValueError, match=told):
        blocks(video, **settings)


def test_blocks_before_the_damage_are_right_and_the_damage_is_named(tmp_path: Path, make_video: Make) -> None:
    path = make_video(tmp_path / "holes.mp4", stamps=list(range(40)), options={"bf": "0"}, between_keys=10)
    content = bytearray(path.read_bytes())
    start = content.index(b"mdat") + len(content) // 4
    content[start : start + len(content) // 4] = bytes(len(content) // 4)
    path.write_bytes(content)
    seen: list[int] = []

    def look() -> None:
        with open_video(path, backend="pyav") as video:
            for block in blocks(video, 1):
                seen.extend(block.indices)

    with pytest.raises(CaseError, match=r"frame \d+ of 40"):
        look()
    assert seen == list(range(len(seen)))
    assert seen


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with VideoEncoder(path, (240, 320)) as video:
        for number in range(300):
            video.add(np.full((240, 320, 3), number % 200, np.uint8), number / 25)
    return path


def test_memory_is_that_of_one_block_whatever_the_length(long: Path, backend: Any) -> None:
    held = []
    with open_video(long, backend=backend) as opened:
        for block in blocks(opened, 8, overlap=2):
            if block.indices[0] % 96 == 0:
                gc.collect()
                held.append(psutil.Process().memory_info().rss)
    assert len(held) >= 3
    # All frames together are 69 MB.
    assert held[-1] - held[1] < 20 * 2**20
