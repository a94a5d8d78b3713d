"""Class scores of one slab of a volume, and the labels that are decided from it plane by plane."""

from __future__ import annotations

import bisect
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Slab", "SlabLabels"]


class Slab:
    """Class scores of consecutive planes along the sweep axis: sums of weighted logits until they are final.

    Args:
        size: Voxels of the whole volume.
        sweep: The axis along which windows advance.
        classes: K, with background.
        length: Planes to hold.
        weights: Blending weights `(*patch)`, on the device that scores are held on.
    """

    def __init__(self, size: tuple[int, ...], sweep: int, classes: int, length: int, weights: Tensor) -> None:
        shape = [min(length, extent) if axis == sweep else extent for axis, extent in enumerate(size)]
        self.scores = torch.zeros(classes, *shape, device=weights.device)
        self.total = torch.zeros(1, *shape, device=weights.device)
        self.weights = weights
        self.weighted = weights.new_empty(classes, *weights.shape)
        self.sweep = sweep
        self.first = 0
        self.final = 0

    def add(self, start: tuple[int, ...], logits: Tensor) -> None:
        """Adds the logits `(K, *patch)` of a window."""
        local = tuple(place - self.first if axis == self.sweep else place for axis, place in enumerate(start))
        box = (
            slice(None),
            *(slice(first, first + length) for first, length in zip(local, self.weights.shape, strict=True)),
        )
        # Not `addcmul`, which rounds once: equal parts in another order would give another sum, and ties be lost.
        self.scores[box].add_(torch.mul(logits, self.weights, out=self.weighted))
        self.total[box].add_(self.weights)

    def finish(self, stop: int) -> None:
        """Divides the planes up to `stop` by their weights."""
        if stop > self.final:
            planes = self._box(self.final, stop)
            self.scores[planes].div_(self.total[planes])
            self.final = stop

    def plane(self, index: int) -> Tensor:
        """Logits `(K, *rest)` of one final plane."""
        return self.scores.select(self.sweep + 1, index - self.first)

    def planes(self, start: int, stop: int) -> Tensor:
        """Logits of the final planes from `start` to before `stop`, `(K, *S)`."""
        return self.scores[self._box(start, stop)]

    def forget_before(self, index: int) -> None:
        """Moves the planes from `index` on to the front."""
        moved = min(index, self.final) - self.first
        if moved <= 0:
            return
        for buffer in (*self.scores, *self.total):
            along = buffer.movedim(self.sweep, 0)
            kept = max(along.shape[0] - moved, 0)
            # Both ranges may overlap; a copy of one class at a time is small and is read in the order of memory.
            along[:kept] = along[moved:].clone()
            along[kept:].zero_()
        self.first += moved

    def _box(self, start: int, stop: int) -> tuple[slice, ...]:
        return (
            *(slice(None),) * (self.sweep + 1),
            slice(start - self.first, stop - self.first),
        )


class SlabLabels:
    """Labels that are decided plane by plane along the sweep axis.

    Args:
        shape: Voxels of the output.
        scale: Index of the output × scale + offset = index in the volume, for each axis.
        offset: See `scale`.
        inner: First and last voxel of the volume along each axis that is not padding.
        sweep: The axis along which windows advance.
        classes: K, with background.
        device: Where scores are held.
        keep: Whether probabilities are kept too.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        scale: tuple[float, ...],
        offset: tuple[float, ...],
        inner: tuple[tuple[int, int], ...],
        sweep: int,
        classes: int,
        device: torch.device,
        keep: bool,
    ) -> None:
        self.labels = torch.empty(shape, dtype=torch.uint8 if classes <= 256 else torch.uint16)
        self.probabilities = torch.empty(classes, *shape, dtype=torch.float16) if keep else None
        self.sweep = sweep
        self.done = 0
        lines = [
            _linear(extent, step, first, ends)
            for extent, step, first, ends in zip(shape, scale, offset, inner, strict=True)
        ]
        self.lower, self.upper, self.share = (part.tolist() for part in lines[sweep][:3])
        self.across = [line.to(device) for axis, line in enumerate(lines) if axis != sweep]
        # The grids agree: the largest logit is the largest probability, and nothing needs to be interpolated.
        self.plain = all(line.copies for line in lines) and not keep

    def needed_from(self) -> int:
        """The first plane of scores that is still needed."""
        return self.lower[self.done] if self.done < len(self.lower) else 2**62

    def take(self, slab: Slab, final: int) -> None:
        """Decides every output plane that lies between planes before `final`."""
        slab.finish(final)
        stop = bisect.bisect_left(self.upper, final)
        if self.plain and stop > self.done:
            self._copy(slab, stop)
        held: dict[int, Tensor] = {}
        while self.done < stop:
            low, high, share = self.lower[self.done], self.upper[self.done], self.share[self.done]
            for index in {low, high} - held.keys():
                held[index] = self._across(slab.plane(index).softmax(0))
            held = {index: plane for index, plane in held.items() if index >= low}
            scores = held[low] if share == 0 else torch.lerp(held[low], held[high], share)
            self.labels.select(self.sweep, self.done).copy_(_largest(scores))
            if self.probabilities is not None:
                self.probabilities.select(self.sweep + 1, self.done).copy_(scores)
            self.done += 1

    def _copy(self, slab: Slab, stop: int) -> None:
        """Decides the output planes before `stop`, each of which lies on a plane of scores."""
        chosen = self.lower[self.done : stop]
        planes = _largest(slab.planes(chosen[0], chosen[-1] + 1)).movedim(self.sweep, 0)  # (planes, *rest)
        if len(chosen) != planes.shape[0]:
            planes = planes[[index - chosen[0] for index in chosen]]
        self.labels.movedim(self.sweep, 0)[self.done : stop] = self._across(planes).to(self.labels.dtype)
        self.done = stop

    def _across(self, values: Tensor) -> Tensor:
        """Brings the axes other than the sweep, which follow the first of `values`, to the output grid."""
        for axis, line in enumerate(self.across, start=1):
            values = line.along(values, axis)
        return values


class _Line(NamedTuple):
    """Where the output voxels of one axis lie: between neighbours `lower` and `upper`, at `share` of the way.

    `copies` says that every share is 0, `start` is the first neighbour where they follow one another.
    """

    lower: Tensor
    upper: Tensor
    share: Tensor
    copies: bool
    start: int | None

    def to(self, device: torch.device) -> _Line:
        return self._replace(lower=self.lower.to(device), upper=self.upper.to(device), share=self.share.to(device))

    def along(self, values: Tensor, axis: int) -> Tensor:
        """Interpolates one axis; a view where voxels are only passed on."""
        if self.copies and self.start is not None:
            return values.narrow(axis, self.start, len(self.lower))
        low = values.index_select(axis, self.lower)
        if self.copies:
            return low
        view = [1] * values.ndim
        view[axis] = -1
        return torch.lerp(low, values.index_select(axis, self.upper), self.share.view(view))


def _largest(scores: Tensor) -> Tensor:
    """Index of the largest along the first axis, the first of equal ones."""
    # `argmax` gives the same, but is several times slower along the first axis.
    return scores.max(0).indices


def _linear(extent: int, scale: float, offset: float, ends: tuple[int, int]) -> _Line:
    """Neighbours and the share of the upper one, for each output voxel of an axis."""
    place = (torch.arange(extent, dtype=torch.float64) * scale + offset).clamp(ends[0], ends[1])
    lower = place.floor().long()
    share = (place - lower).float()
    # Rounding must not turn a copy into an interpolation.
    share = torch.where(share < 1e-6, 0.0, share)
    upper = torch.where(share > 0, lower + 1, lower)
    start = int(lower[0]) if bool((lower.diff() == 1).all()) else None
    return _Line(lower, upper, share, bool((share == 0).all()), start)
