"""Attention in windows of the grid, every second layer in windows that are shifted by half of one (Swin).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("window", 32, rank=3, window=(2, 4, 4), shift="half")
>>> mixer(torch.zeros(1, 3, 7, 9, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 3, 7, 9, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from shared_attention.arguments import per_axis
from shared_attention.grouped import GroupedAttention, shift_of, shrunk
from shared_attention.positions import RelativeTable
from shared_attention.registry import Card, Source, register

__all__ = ["Window"]


@register(
    Card(
        name="window",
        title="Shifted windows (Swin)",
        paper="Liu et al., Swin Transformer: Hierarchical Vision Transformer using Shifted Windows, ICCV 2021",
        year=2021,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="4*N*C**2 + 2*N*window**rank*C",
        formula="y_i = W Σ_j softmax_{j ∈ window(i)}(q_i · k_j / √D + B[i − j]) v_j\n"
        "every second layer the windows are shifted by half of one",
        source=Source("microsoft/Swin-Transformer", "f82860b", "MIT"),
        fixtures=("swin_window_attention", "swin_block"),
        notes="Along an axis where the grid is no larger than the window, the window shrinks to it and is not shifted "
        "(the authors shrink both axes to the smaller one: pass the window you mean). Grids that the windows do not "
        "divide are padded, and padded tokens are never seen; the authors' detection code lets them be seen.",
        small={"window": 4},
        alternation=({"shift": 0}, {"shift": "half"}),
    )
)
class Window(GroupedAttention):
    """Softmax attention among the tokens of each window, with a learned bias for each offset.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads, a divisor of the channels; None for heads of about 32 channels.
        window: Tokens of a window along each axis.
        shift: How far the windows are shifted along each axis, less than a window; `half` for half a window.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        window: int | tuple[int, ...] = 7,
        shift: int | tuple[int, ...] | Literal["half"] = 0,
        qkv_bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__(dim, rank=rank, heads=heads, qkv_bias=qkv_bias, dropout=dropout)
        self.window = per_axis("window", window, rank)
        self.shift = shift_of(self.window, shift)
        self.position = RelativeTable(self.window, self.heads)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        window, shift = shrunk(grid, self.window, self.shift)
        return self.in_groups(x, mask, size=window, shift=shift, bias=self.position(window))
