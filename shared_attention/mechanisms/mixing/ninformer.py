"""A linear layer of each token is gated by an MLP-Mixer of all of them (NiNformer).

>>> import torch
>>> from shared_attention import build
>>> build("ninformer", 16, rank=2, grid=(4, 6))(torch.zeros(2, 9, 10, 16)).shape  # (B, *S, C) stays
torch.Size([2, 9, 10, 16])
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import per_axis, positive
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank
from shared_attention.registry import Card, Source, register
from shared_attention.resizing import resized

__all__ = ["MixerGate"]


@register(
    Card(
        name="ninformer",
        title="Network in network: gating by an MLP-Mixer (NiNformer)",
        paper="Abdullah and Aydin, NiNformer: A Network in Network Transformer with Token Mixing Generated Gating "
        "Function, arXiv:2403.02411",
        year=2024,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="N*C**2 + 4*N*C*hidden",
        formula="g = x + T₂ GELU(T₁ LN x)                       T: along tokens\ng ← g + FFN(LN g);   y = (W x) ⊙ g",
        source=Source("Abdullah-88/NiNformer", "0ec85d4", "BSD-3-Clause"),
        fixtures=("ninformer_block",),
        notes="The weights along tokens belong to one grid, the only one that the authors' code takes; on another they "
        "are interpolated, and those that sum over tokens scaled to keep the size of the sums. There is no sigmoid on "
        "the gate. The published block uses one LayerNorm twice.",
        small={"grid": 4, "hidden": 8},
    )
)
class MixerGate(TokenMixer):
    """`linear(x) * mixer(x)`, where the mixer is a perceptron along tokens and one along channels, each residual.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        grid: Tokens along each axis of the grid that the weights along tokens belong to.
        hidden: Numbers inside both perceptrons.
    """

    def __init__(self, dim: int, *, rank: int, grid: int | tuple[int, ...] = 8, hidden: int = 128) -> None:
        super().__init__(dim, rank=rank)
        positive("hidden", hidden)
        self.grid = per_axis("grid", grid, rank)
        tokens = prod(self.grid)
        self.project = nn.Linear(dim, dim)
        self.token_norm = nn.LayerNorm(dim)
        self.gather = nn.Linear(tokens, hidden)
        self.spread = nn.Linear(hidden, tokens)
        self.channel_norm = nn.LayerNorm(dim)
        self.channels = FeedForward(dim, hidden=hidden)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        tokens = blank(self.token_norm(x), mask).flatten(1, -2)  # (B, N, C)
        scale = prod(self.grid) / prod(grid)
        inside = functional.gelu(scale * (self._on(self.gather.weight, grid) @ tokens) + self.gather.bias[:, None])
        spread = self._on(self.spread.weight.T, grid).T @ inside + self._on(self.spread.bias[None], grid).T
        gate = x + spread.unflatten(1, grid)
        gate = gate + self.channels(self.channel_norm(gate))
        return self.project(x) * gate  # (B, *S, C)

    def _on(self, weight: Tensor, grid: Sequence[int]) -> Tensor:
        """Weights of the own grid's tokens, `(E, n)`, for those of another grid, `(E, N)`."""
        return resized(weight.unflatten(1, self.grid)[None], grid)[0].flatten(1)
