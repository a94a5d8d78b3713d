"""What an output token depends on: the size of its derivative by each input token, for any mechanism alike.

Attention maps tell only of softmax weights, and only of mechanisms that have some. This tells of scans, convolutions,
gates and spectra too, and of all ways at once (weights, values, biases, normalisation):

>>> import torch
>>> from shared_attention import build
>>> x = torch.randn(1, 6, 6, 8, generator=torch.Generator().manual_seed(0))  # (B, *S, C)
>>> seen = influence(build("window", 8, rank=2, window=3).eval(), x, [(0, 4)])[0]  # (*S)
>>> (seen > 0).int()[:4]
tensor([[0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1],
        [0, 0, 0, 0, 0, 0]], dtype=torch.int32)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["influence"]


def influence(run: Callable[[Tensor], Tensor], x: Tensor, places: Sequence[Sequence[int]]) -> Tensor:
    """How much output tokens change with each input token.

    Args:
        run: A mechanism in evaluation mode, or any function of `(B, *S, C)` to `(B, *T, E)` that treats the samples of
            a batch apart.
        x: `(B, *S, C)`, floating point; the result is the mean over the batch.
        places: Of `P` output tokens on the grid `T`.

    Returns:
        `(P, *S)`, the Frobenius norm of the `(E, C)` derivatives of an output token by each input token. Hard choices,
        such as which keys are looked at, are taken as they fall.

    Raises:
        ValueError: The output has no such place.
    """
    with torch.no_grad():
        shape = tuple(run(x[:1]).shape)
    grid, channels = shape[1:-1], shape[-1]
    for place in places:
        if len(place) != len(grid) or any(not 0 <= at < size for at, size in zip(place, grid, strict=True)):
            raise ValueError(f"place {tuple(place)} is not on the grid {grid} of the output")
    copies = x.detach().repeat(channels, *[1] * (x.ndim - 1)).requires_grad_(True)  # one for each output channel
    out = run(copies)
    found = []
    for place in places:
        index: tuple[slice | int, ...] = (slice(None), *place)
        token = out[index].view(channels, len(x), channels)
        (slope,) = torch.autograd.grad(token.diagonal(dim1=0, dim2=2).sum(), copies, retain_graph=True)
        found.append(slope.view(channels, *x.shape).square().sum((0, -1)).sqrt().mean(0))
    return torch.stack(found)
