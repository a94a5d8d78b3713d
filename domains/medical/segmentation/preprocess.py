"""What is done to a scan before the network sees it; the same in training and in service.

read → canonical axes → crop → intensity → spacing
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from domains.medical.scans.orientation import to_canonical
from domains.medical.scans.scan import Scan
from domains.medical.segmentation.layout import Layout, network_shape
from domains.medical.segmentation.resampling import resample, resample_labels

__all__ = ["Prepared", "Preprocessing", "foreground_box"]

_SAMPLE = 1_000_000
"""Voxels that quantiles are taken from; more change them in the fourth digit only."""


@dataclass(frozen=True)
class Prepared:
    """A scan as the network sees it: image `(C, *P)` float32, and the way back to the scan's grid."""

    image: Tensor
    layout: Layout


@dataclass(frozen=True)
class Preprocessing:
    """Preprocessing with everything it learnt from the training part; plain values throughout.

    Attributes:
        rank: Spatial axes.
        channels: Channels of an image.
        spacing: Spacing in mm that scans are resampled to, in canonical axes; none keeps each scan's own.
        intensity: `{name: zscore, clip}`, `{name: ct, window, mean, deviation}` or `{name: unit, maximum}`.
        crop_foreground: Whether the margin of background is cut away.
    """

    rank: int
    channels: int
    spacing: tuple[float, ...] | None = None
    intensity: Mapping[str, Any] = field(default_factory=lambda: {"name": "zscore", "clip": None})
    crop_foreground: bool = False

    def describe(self) -> dict[str, Any]:
        """Plain values, for `from_description`."""
        return asdict(self)

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> Preprocessing:
        """The inverse of `describe`."""
        spacing = description["spacing"]
        return cls(**{**description, "spacing": None if spacing is None else tuple(spacing)})

    def layout(self, scan: Scan) -> Layout:
        """The way from this scan's grid to the network's."""
        canonical, _, turn = to_canonical(scan.array, scan.affine)
        shape = canonical.shape[1:]
        crop = foreground_box(canonical) if self.crop_foreground else tuple((0, length) for length in shape)
        spacing = turn.spacing(scan.spacing)
        return Layout(turn, shape, crop, network_shape([stop - start for start, stop in crop], spacing, self.spacing))

    def prepare(self, scan: Scan) -> Prepared:
        """A scan as the network sees it."""
        layout = self.layout(scan)
        image = np.array(layout.oriented(scan.array), dtype=np.float32, order="C")  # (C, *cropped)
        for channel in image:
            self._normalise(channel)
        return Prepared(resample(torch.from_numpy(image), layout.shape), layout)

    def prepare_labels(self, labels: NDArray[Any], layout: Layout) -> Tensor:
        """Class indices `(*S)` of a scan on the network's grid."""
        oriented = np.ascontiguousarray(layout.oriented(labels[None])[0])
        return resample_labels(torch.from_numpy(oriented), layout.shape)

    def _normalise(self, channel: NDArray[np.float32]) -> None:
        """Normalises one channel in place."""
        name = self.intensity["name"]
        if name == "unit":
            channel /= self.intensity["maximum"]
            np.clip(channel, 0, 1, out=channel)
        elif name == "ct":
            low, high = self.intensity["window"]
            np.clip(channel, low, high, out=channel)
            channel -= self.intensity["mean"]
            channel /= self.intensity["deviation"]
        else:
            _zscore(channel, self.intensity["clip"])


def _zscore(channel: NDArray[np.float32], clip: tuple[float, float] | None) -> None:
    """Clips to quantiles of the foreground, then gives it mean 0 and deviation 1, in place.

    The foreground is what lies above the lowest value: all but the empty margin of a masked or padded scan, and
    practically everything in any other.
    """
    # An odd step does not fall in with the rows of a volume, whose lengths are even as a rule.
    step = max(1, channel.size // _SAMPLE) | 1
    sample = channel.reshape(-1)[::step].astype(np.float64)
    foreground = sample[sample > channel.min()]
    if foreground.size == 0:
        channel[...] = 0
        return
    if clip is not None:
        low, high = np.quantile(foreground, clip)
        np.clip(channel, low, high, out=channel)
        foreground = foreground.clip(low, high)
    deviation = float(foreground.std())
    channel -= np.float32(foreground.mean())
    channel /= np.float32(deviation if deviation > 0 else 1.0)


def foreground_box(image: NDArray[Any]) -> tuple[tuple[int, int], ...]:
    """The smallest box of `(C, *S)` outside which every channel holds its lowest value; the whole if there is none."""
    rank = image.ndim - 1
    inside = np.zeros(image.shape[1:], bool)
    for channel in image:
        inside |= channel > channel.min()
    box = []
    for axis in range(rank):
        held = np.flatnonzero(inside.any(axis=tuple(other for other in range(rank) if other != axis)))
        box.append((int(held[0]), int(held[-1]) + 1) if held.size else (0, image.shape[axis + 1]))
    return tuple(box)
