"""What the modules of the CAB benchmark share, as published."""

from __future__ import annotations

import torch
from torch import Tensor

from shared_attention.published import Adapter

__all__ = ["Cab"]


class Cab(Adapter):
    """Tokens first, then the batch; True marks padding; queries, keys and values are projected apart."""

    def joined(self, *parts: str) -> dict[str, Tensor]:
        """Weights and biases of projections, one below the other."""
        entries = [self.state.under(part) for part in parts]
        return {name: torch.cat([entry[name] for entry in entries]) for name in entries[0]}

    def context(self) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Tokens `(B, L, C)`, context `(B, S, C)` where it differs, and which keys are real."""
        query, key, padding = (self.inputs.get(name) for name in ("query", "key", "key_padding_mask"))
        assert query is not None
        real = None if padding is None else ~padding.bool()
        return query.transpose(0, 1), None if key is None else key.transpose(0, 1), real
