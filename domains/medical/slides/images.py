"""Bags from plain images, such as cores of a tissue microarray: every tile of the image, none left out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.medical.slides.bagfiles import Bag
from domains.medical.slides.encoders import Encoder

__all__ = ["encode_image", "even_positions"]


def encode_image(
    encoder: Encoder, pixels: NDArray[np.uint8], *, tile: int = 224, overlap: int = 0, batch_size: int = 32
) -> Bag:
    """The bag of one image.

    Tiles lie on an even grid that reaches every edge; where the size of the image is no multiple, neighbours share more
    than `overlap`, and nothing is padded.

    Args:
        encoder: The encoder.
        pixels: uint8 `(H, W, 3)`, no side below `tile`.
        tile: Side of a tile in pixels.
        overlap: Pixels that neighbours share at least.
        batch_size: Tiles through the network at once.

    Raises:
        ValueError: The image is smaller than one tile, or the overlap is not below the tile.
    """
    if min(pixels.shape[:2]) < tile or not 0 <= overlap < tile:
        raise ValueError(f"image {pixels.shape[:2]}, tile {tile}, overlap {overlap}: tiles do not fit")
    rows, columns = (even_positions(length, tile, tile - overlap) for length in pixels.shape[:2])
    coords = np.array([(x, y) for y in rows for x in columns], np.int64)  # (N, 2)
    features = np.concatenate([encoder(batch) for batch in _batches(pixels, coords, tile, batch_size)])  # (N, F)
    about: dict[str, Any] = {
        "encoder": encoder.describe(),
        "patch_size": tile,
        "overlap": overlap,
        "patch_size_level0": tile,
        "level0_width": pixels.shape[1],
        "level0_height": pixels.shape[0],
    }
    return Bag(features, coords, about)


def even_positions(length: int, tile: int, step: int) -> list[int]:
    """Starts of tiles from the first pixel to the last, at most `step` apart."""
    count = -(-(length - tile) // step) + 1
    return [round(index * (length - tile) / max(count - 1, 1)) for index in range(count)]


def _batches(pixels: NDArray[np.uint8], coords: NDArray[np.int64], tile: int, size: int) -> Iterator[NDArray[np.uint8]]:
    for start in range(0, len(coords), size):
        yield np.stack([pixels[y : y + tile, x : x + tile] for x, y in coords[start : start + size]])
