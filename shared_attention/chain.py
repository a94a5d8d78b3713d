"""Mixers one after another, as one.

>>> import torch
>>> from shared_attention import build
>>> chain = Chain(build("window", 32, rank=2), build("eca", 32, rank=2))
>>> chain(torch.zeros(2, 6, 9, 32)).shape  # (B, *S, C) stays
torch.Size([2, 6, 9, 32])
"""

from __future__ import annotations

from torch import Tensor, nn

from shared_attention.contract import TokenMixer

__all__ = ["Chain"]


class Chain(TokenMixer):
    """The output of each mixer is the input of the next; all see the mask. Parameters stand under `mixers.0`, ...

    Args:
        mixers: One or more, of the same channels and rank.
    """

    def __init__(self, *mixers: TokenMixer) -> None:
        super().__init__(mixers[0].dim, rank=mixers[0].rank)
        self.mixers = nn.ModuleList(mixers)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        if context is not None:
            raise ValueError("a chain takes no context")
        for mixer in self.mixers:
            x = mixer(x, mask=mask)
        return x  # (B, *S, C)
