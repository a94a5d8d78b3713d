"""What an output token depends on: the size of its derivative by each input token, for any mechanism alike.

Attention maps tell only of softmax weights, and only of mechanisms that have some. This tells of scans, convolutions,
gates and spectra too, and of all ways at once (weights, values, biases, normalisation):

>>> import torch
>>> from shared_attention import build
>>> x = torch.randn(1, 6, 6, 8, generator=torch.Generator().manual_seed(0))  # (B, *S, C)
>>> seen = influence(build("window", 8, rank=2, window=3).eval(), x, (0, 4))  # (*S)
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


def influence(run: Callable[[Tensor], Tensor], x: Tensor, place: Sequence[int]) -> Tensor:
    """How much an output token changes with each input token.

    Args:
        run: A mechanism in evaluation mode, or any function of `(B, *S, C)` to `(B, *T, E)` that treats the samples of
            a batch apart.
        x: `(B, *S, C)`, floating point; the result is the mean over the batch.
        place: Of the output token on the grid `T`.

    Returns:
        `(*S)`, the Frobenius norm of the `(E, C)` derivatives of the output token by each input token. Hard choices,
        such as which keys are looked at, are taken as they fall.

    Raises:
        ValueError: The output has no such place.
    """
    x = x.detach().clone().requires_grad_(True)
    out = run(x)
    grid = tuple(out.shape[1:-1])
    if len(place) != len(grid) or any(not 0 <= at < size for at, size in zip(place, grid, strict=True)):
        raise ValueError(f"place {tuple(place)} is not on the grid {grid} of the output")
    token = out[(slice(None), *place)]  # (B, E)
    squares = torch.zeros(x.shape[:-1], dtype=x.dtype, device=x.device)
    for channel in range(token.shape[-1]):
        (slope,) = torch.autograd.grad(token[:, channel].sum(), x, retain_graph=True, allow_unused=True)
        if slope is not None:
            squares += slope.square().sum(-1)
    return squares.sqrt().mean(0).detach()
