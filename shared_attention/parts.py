"""Windows a few at a time, so that the weights of all of them never lie in memory at once.

>>> import torch
>>> def weigh(q, k):
...     return (q @ k.transpose(-2, -1)).softmax(-1)
>>> q, k = torch.randn(2, 1, 5, 1, 4, 8).unbind(0)  # (B, G, H, n, D)
>>> bool((in_parts(weigh, q, k, weights=5 * 4 * 4, most=20) == weigh(q, k)).all())  # a window at a time
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["MOST_WEIGHTS", "in_parts"]

MOST_WEIGHTS = 2**27
"""Attention weights that are held at once where a kernel cannot do without them: half a GiB in float32."""

_WINDOWS = -4
"""The axis of `(..., G, H, n, D)` that is cut."""


def in_parts(run: Callable[..., Tensor], *tensors: Tensor | None, weights: int, most: int | None = None) -> Tensor:
    """Run a function over all windows at once, or over some after the others if that would hold too much.

    In parts, the backward pass calculates each part again instead of keeping its weights: one forward pass more, for
    memory that no longer grows with the size of a window.

    Args:
        run: Takes the tensors and gives `(..., G, H, n, E)`; each window by itself, whatever else it closes over.
        tensors: `(..., G, H, *, *)` each. One that lacks the axis of windows, or has one window for all, goes to each
            part whole; None stays None.
        weights: How many weights all windows have together.
        most: How many may be held at once, `MOST_WEIGHTS` by default; a part has one window at least.

    Returns:
        `(..., G, H, n, E)`.
    """
    most = MOST_WEIGHTS if most is None else most
    windows = max(one.shape[_WINDOWS] for one in tensors if one is not None and one.ndim >= -_WINDOWS)
    if weights <= most or windows == 1:
        return run(*tensors)
    together = max(1, most * windows // weights)
    parts = zip(*(_cut(one, windows, together) for one in tensors), strict=True)
    if torch.is_grad_enabled():
        return torch.cat([checkpoint(run, *part, use_reentrant=False) for part in parts], _WINDOWS)
    return torch.cat([run(*part) for part in parts], _WINDOWS)


def _cut(one: Tensor | None, windows: int, together: int) -> Sequence[Tensor | None]:
    if one is None or one.ndim < -_WINDOWS or one.shape[_WINDOWS] == 1:
        return [one] * -(-windows // together)
    return one.split(together, _WINDOWS)
