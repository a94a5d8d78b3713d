"""Bags of different sizes as one batch, and as many of their instances as fit.

>>> bags, mask = pad_bags([torch.ones(2, 3), torch.ones(4, 3)])
>>> bags.shape, mask.tolist()  # (B, N, F), (B, N)
(torch.Size([2, 4, 3]), [[True, True, False, False], [True, True, True, True]])
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["draw_instances", "pad_bags"]


def pad_bags(bags: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Bags `(N, F)` as one tensor `(B, N, F)` filled up with zeros, and a mask `(B, N)`, True for a real instance."""
    counts = torch.tensor([len(bag) for bag in bags])
    padded = torch.nn.utils.rnn.pad_sequence(list(bags), batch_first=True)
    return padded, torch.arange(int(counts.max())) < counts[:, None]


def draw_instances(bag: NDArray[np.float32], most: int | None, *, key: Sequence[int]) -> NDArray[np.float32]:
    """At most so many instances of a bag `(N, F)`, drawn by a key, in their order; all of them with None."""
    if most is None or len(bag) <= most:
        return bag
    return bag[np.sort(np.random.default_rng(list(key)).choice(len(bag), most, replace=False))]
