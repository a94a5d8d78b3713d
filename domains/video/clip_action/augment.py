"""Random changes of a clip, the same for all of its frames: what moves must be what moved before the camera."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domains.video.clip_action.poses import mirror_pose
from domains.video.clip_action.settings import AugmentSettings

__all__ = ["ClipChange", "crop", "cut_of", "draw_change"]

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class ClipChange:
    """What is done to every frame of a clip.

    Attributes:
        top: Where the cut begins, as a share of the rows that it could be moved by.
        left: The same of columns.
        zoom: Share of each side of the usual cut.
        flip: Whether left and right change sides.
        contrast: Factor around the middle grey.
        brightness: What is added, as a share of the range.
    """

    top: float = 0.5
    left: float = 0.5
    zoom: float = 1.0
    flip: bool = False
    contrast: float = 1.0
    brightness: float = 0.0

    def __call__(self, images: Pixels, size: tuple[int, int]) -> Pixels:
        """uint8 `(T, h, w, 3)`, at least as large as `size`, to uint8 `(T, H, W, 3)`."""
        images = crop(images, size, top=self.top, left=self.left, zoom=self.zoom)
        if self.flip:
            images = images[:, :, ::-1]
        if self.contrast != 1.0 or self.brightness:
            grey = np.arange(256, dtype=np.float32)
            table = (grey - 127.5) * self.contrast + 127.5 + self.brightness * 255
            images = np.clip(table, 0, 255).astype(np.uint8)[images]
        return np.ascontiguousarray(images)

    def places(
        self, pose: NDArray[np.float32], shape: tuple[int, int], size: tuple[int, int], order: Sequence[int]
    ) -> NDArray[np.float32]:
        """Poses where the change puts them: through the same cut and mirror as the pixels.

        Args:
            pose: float32 `(..., J, 3)`: column and row from 0 to 1 over the frame, and confidence.
            shape: Height and width of the frames that are cut.
            size: Height and width of the result.
            order: For each joint the one that it becomes in a mirror.

        Returns:
            The same over the cut; 0 where a joint was not seen. One beyond the cut lies below 0 or above 1 and keeps
            its confidence: where it is is still known.
        """
        top, left, height, width = cut_of(shape, size, top=self.top, left=self.left, zoom=self.zoom)
        frame = np.array([shape[1], shape[0]], np.float32)
        moved = pose.copy()
        moved[..., :2] = (pose[..., :2] * frame - (left, top)) / np.array([width, height], np.float32)
        moved *= moved[..., 2:] > 0
        return mirror_pose(moved, order) if self.flip else moved


def draw_change(settings: AugmentSettings, rng: np.random.Generator) -> ClipChange:
    """A random change."""
    return ClipChange(
        top=float(rng.random()),
        left=float(rng.random()),
        zoom=float(rng.uniform(settings.zoom, 1)),
        flip=bool(rng.random() < settings.flip),
        contrast=float(1 + rng.uniform(-settings.contrast, settings.contrast)),
        brightness=float(rng.uniform(-settings.brightness, settings.brightness)),
    )


def crop(images: Pixels, size: tuple[int, int], *, top: float = 0.5, left: float = 0.5, zoom: float = 1.0) -> Pixels:
    """A cut of the same place of every frame, scaled to the size where it is smaller.

    Args:
        images: uint8 `(T, h, w, 3)`, at least as large as `size`.
        size: Height and width of the result.
        top: Where it begins, as a share of the rows that it could be moved by; 0.5 is the middle.
        left: The same of columns.
        zoom: Share of each side of `size` that is cut out.
    """
    down, right, height, width = cut_of(images.shape[1:3], size, top=top, left=left, zoom=zoom)
    cut = images[:, down : down + height, right : right + width]
    if (height, width) == tuple(size):
        return cut
    import cv2

    return np.stack([cv2.resize(one, (size[1], size[0]), interpolation=cv2.INTER_LINEAR) for one in cut])


def cut_of(
    shape: Sequence[int], size: Sequence[int], *, top: float = 0.5, left: float = 0.5, zoom: float = 1.0
) -> tuple[int, int, int, int]:
    """First row, first column, height and width of what `crop` cuts from frames of a height and width."""
    height, width = (max(1, round(side * zoom)) for side in size)
    return round((shape[0] - height) * top), round((shape[1] - width) * left), height, width
