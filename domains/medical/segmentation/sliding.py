"""Segmenting a volume of any size by a sliding window, holding class scores for one slab only.

Windows are blended by a Gaussian. They are taken in order along one axis, so planes behind the next window are final:
those are turned into probabilities, interpolated to the output grid, decided, and forgotten. Labels are the same as if
the whole volume had been held.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from domains.medical.segmentation.slab import Slab, SlabLabels

__all__ = ["gaussian_weights", "segment_volume", "window_starts"]

_SIGMA = 0.125
"""Standard deviation of the blending weights, as a share of the window (as in nnU-Net and MONAI)."""


def gaussian_weights(patch: Sequence[int]) -> Tensor:
    """Blending weights `(*patch)` in float32: 1 in the centre, never below a thousandth."""
    weights = torch.ones(())
    for axis, extent in enumerate(patch):
        place = torch.arange(extent, dtype=torch.float32) - (extent - 1) / 2
        line = torch.exp(-0.5 * (place / (_SIGMA * extent)) ** 2)
        weights = weights[..., None] * line.view((1,) * axis + (-1,))
    return weights.clamp_min(max(float(weights.min()), 1e-3))


def window_starts(length: int, extent: int, overlap: float) -> list[int]:
    """First voxels of the windows along one axis; the last window ends with the axis."""
    if length <= extent:
        return [0]
    step = max(1, int(extent * (1 - overlap)))
    count = math.ceil((length - extent) / step) + 1
    return [min(index * step, length - extent) for index in range(count)]


@torch.inference_mode()
def segment_volume(
    network: Callable[[Tensor], Tensor],
    image: Tensor,
    *,
    patch: Sequence[int],
    classes: int,
    output_shape: Sequence[int] | None = None,
    output_scale: Sequence[float] | None = None,
    output_offset: Sequence[float] | None = None,
    overlap: float = 0.5,
    batch_size: int = 1,
    mirror_axes: Sequence[int] = (),
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    keep_probabilities: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Labels of a volume or image, on a grid of the caller's choice.

    Args:
        network: Maps `(B, C, *patch)` to logits `(B, classes, *patch)`, in evaluation mode.
        image: `(C, *S)` float32, two or three spatial axes, on the CPU.
        patch: Voxels of the window along each axis; an image that is shorter is padded with 0 around it.
        classes: Number of classes with background.
        output_shape: Shape of the labels; default `S`.
        output_scale: Index of the output × scale + offset = index in `image`; default from the shapes, edges aligned.
        output_offset: See `output_scale`.
        overlap: Share of a window that the next one covers too, in `[0, 1)`.
        batch_size: Windows through the network at once.
        mirror_axes: Axes for mirrored copies; logits are averaged over every combination of them.
        device: Where the network is, and where scores are held.
        precision: bfloat16 or float16 runs the network under autocast.
        keep_probabilities: Return probabilities `(classes, *output_shape)` in float16 too; they take the memory that
            this function otherwise saves.

    Returns:
        Labels `(*output_shape)` on the CPU, uint8 (uint16 for more than 256 classes), with probabilities if asked for.
    """
    source = tuple(image.shape[1:])
    target = tuple(output_shape) if output_shape is not None else source
    scale = (
        tuple(output_scale) if output_scale is not None else tuple(n / m for n, m in zip(source, target, strict=True))
    )
    offset = tuple(output_offset) if output_offset is not None else tuple(0.5 * step - 0.5 for step in scale)
    device = torch.device(device)
    padded, before = _padded(image, patch)
    size = tuple(padded.shape[1:])
    sweep = _sweep_axis(size, patch)
    windows = _windows(size, patch, overlap, sweep)
    weights = gaussian_weights(patch).to(device)
    slab = Slab(size, sweep, classes, _buffer_length(windows, patch, sweep, batch_size), weights)
    shifted = tuple(low + first for low, first in zip(offset, before, strict=True))
    inner = tuple((first, first + length - 1) for first, length in zip(before, source, strict=True))
    output = SlabLabels(target, scale, shifted, inner, sweep, classes, device, keep_probabilities)

    for index in range(0, len(windows), batch_size):
        batch = windows[index : index + batch_size]
        cubes = torch.stack([padded[(slice(None), *_box(start, patch))] for start in batch]).to(device)
        logits = _mirrored(network, cubes, mirror_axes, device, precision)
        for start, scores in zip(batch, logits, strict=True):
            slab.add(start, scores)
        following = index + batch_size
        final = windows[following][sweep] if following < len(windows) else size[sweep]
        output.take(slab, final)
        slab.forget_before(output.needed_from())
    return (output.labels, output.probabilities) if output.probabilities is not None else output.labels


def _padded(image: Tensor, patch: Sequence[int]) -> tuple[Tensor, tuple[int, ...]]:
    """The image with axes shorter than the patch padded by 0 on both sides, and the voxels put before it."""
    missing = [max(extent - length, 0) for extent, length in zip(patch, image.shape[1:], strict=True)]
    before = tuple(number // 2 for number in missing)
    if not any(missing):
        return image, before
    padding: list[int] = []
    for first, number in reversed(list(zip(before, missing, strict=True))):
        padding += [first, number - first]
    return functional.pad(image, padding), before


def _sweep_axis(size: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which a slab one window thick is the smallest part of the whole."""
    return max(range(len(size)), key=lambda axis: (size[axis] / patch[axis], -axis))


def _windows(size: Sequence[int], patch: Sequence[int], overlap: float, sweep: int) -> list[tuple[int, ...]]:
    starts = [window_starts(length, extent, overlap) for length, extent in zip(size, patch, strict=True)]
    return sorted(itertools.product(*starts), key=lambda start: (start[sweep], start))


def _buffer_length(windows: Sequence[tuple[int, ...]], patch: Sequence[int], sweep: int, batch_size: int) -> int:
    """Planes between the first that is not final and the end of the last window of a batch, and one to interpolate."""
    spans = (
        windows[min(first + batch_size, len(windows)) - 1][sweep] - windows[first][sweep]
        for first in range(0, len(windows), batch_size)
    )
    return max(spans) + patch[sweep] + 2


def _box(start: Sequence[int], extent: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(first, first + length) for first, length in zip(start, extent, strict=True))


def _reflections(axes: Sequence[int]) -> Iterator[tuple[int, ...]]:
    for count in range(len(axes) + 1):
        yield from itertools.combinations(axes, count)


def _mirrored(
    network: Callable[[Tensor], Tensor],
    cubes: Tensor,
    mirror_axes: Sequence[int],
    device: torch.device,
    precision: torch.dtype,
) -> Tensor:
    """Logits `(B, K, *patch)` in float32, averaged over reflections."""
    total: Tensor | None = None
    combinations = list(_reflections(sorted(set(mirror_axes))))
    for axes in combinations:
        turned = [axis + 2 for axis in axes]
        with torch.autocast(device.type, dtype=precision, enabled=precision != torch.float32):
            logits = network(cubes.flip(turned) if turned else cubes)
        logits = (logits.flip(turned) if turned else logits).float()
        total = logits if total is None else total + logits
    assert total is not None
    return total / len(combinations) if len(combinations) > 1 else total
