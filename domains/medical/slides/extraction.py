"""From tiles to features: threads read the next batches while one is encoded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.encoders import Encoder
from domains.medical.slides.slide import Slide
from domains.medical.slides.tiles import TileGrid

__all__ = ["extract_features", "read_batches"]

Batch = NDArray[np.uint8]


def extract_features(
    slide: Slide,
    grid: TileGrid,
    encoder: Encoder,
    *,
    batch_size: int = 32,
    readers: int = 2,
    report: Callable[[int, int], None] = lambda done, total: None,
) -> NDArray[np.float32]:
    """Features of all tiles, in the order of the grid.

    Args:
        slide: Open, and open until this returns.
        grid: Its tiles.
        encoder: The encoder.
        batch_size: Tiles through the encoder at once.
        readers: Threads that read tiles.
        report: Told how many tiles of how many are encoded, after each batch.

    Returns:
        float32 `(N, F)`.

    Raises:
        CaseError: A tile cannot be read.
    """
    features = np.empty((len(grid), encoder.features), np.float32)
    done = 0
    for batch in read_batches(slide, grid, batch_size=batch_size, readers=readers):
        features[done : done + len(batch)] = encoder(batch)
        done += len(batch)
        report(done, len(grid))
    return features


def read_batches(slide: Slide, grid: TileGrid, *, batch_size: int, readers: int) -> Iterator[Batch]:
    """Batches of tiles, uint8 `(B, size, size, 3)`, in order; a few are read ahead."""

    def read(start: int) -> Batch:
        indices = range(start, min(start + batch_size, len(grid)))
        batch = np.empty((len(indices), grid.size, grid.size, 3), np.uint8)
        for place, index in enumerate(indices):
            batch[place] = grid.read(slide, index)
        return batch

    starts = iter(range(0, len(grid), batch_size))
    with ThreadPoolExecutor(readers, thread_name_prefix="tiles") as pool:
        waiting: deque[Future[Batch]] = deque()
        try:
            # One batch for each reader and one in hand: what bounds the memory.
            for start in starts:
                waiting.append(pool.submit(read, start))
                if len(waiting) > readers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
