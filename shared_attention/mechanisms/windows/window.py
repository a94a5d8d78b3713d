"""Attention in windows of the grid, every second layer in windows that are shifted by half of one (Swin).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("window", 32, rank=3, window=(2, 4, 4), shift="half")
>>> mixer(torch.zeros(1, 3, 7, 9, 32)).shape  # (B, *S, C), any sizes
torch.Size([1, 3, 7, 9, 32])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.contract import TokenMixer
from shared_attention.grids import crop, merge, pad_to_multiple, partition, partition_map, roll, shift_mask
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
        source=Source("microsoft/Swin-Transformer", "f82860b", "MIT"),
        fixtures=("swin_window_attention", "swin_block"),
        notes="Along an axis where the grid is no larger than the window, the window shrinks to it and is not shifted "
        "(the authors shrink both axes to the smaller one: pass the window you mean). Grids that the windows do not "
        "divide are padded, and padded tokens are never seen; the authors' detection code lets them be seen.",
        small={"window": 4},
        alternation=({"shift": 0}, {"shift": "half"}),
    )
)
class Window(TokenMixer):
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
        super().__init__(dim, rank=rank)
        self.heads, self.head_dim = heads_of(dim, heads)
        self.window = per_axis("window", window, rank)
        self.shift = (
            tuple(size // 2 for size in self.window) if shift == "half" else per_axis("shift", shift, rank, minimum=0)
        )
        if any(step >= size for step, size in zip(self.shift, self.window, strict=True)):
            raise ValueError(f"shift {self.shift} is not below the window {self.window}")
        self.dropout = dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias)
        self.proj = nn.Linear(dim, dim)
        self.position = RelativeTable(self.window, self.heads)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid = x.shape[1:-1]
        window = tuple(min(pair) for pair in zip(grid, self.window, strict=True))
        shift = [0 if size <= full else step for size, full, step in zip(grid, self.window, self.shift, strict=True)]
        x, mask = pad_to_multiple(x, window, mask)
        padded = x.shape[1:-1]
        x = roll(x, [-step for step in shift])
        visible = None
        if any(shift):
            visible = shift_mask(padded, window, shift, x.device)[:, None]  # (G, 1, n, n)
        if mask is not None:
            rolled = roll(mask.unsqueeze(-1), [-step for step in shift]).squeeze(-1)
            keys = partition_map(rolled, window)[:, :, None, None]  # (B, G, 1, 1, n)
            visible = keys if visible is None else visible & keys
        out = self.attend_windows(partition(x, window), mask=visible, bias=self.position(window))
        return crop(roll(merge(out, window, padded), shift), grid)

    def attend_windows(self, windows: Tensor, *, mask: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Attention inside each window.

        Args:
            windows: `(B, G, n, C)`.
            mask: bool, broadcastable to `(B, G, H, n, n)`, True where a token may see another.
            bias: Added to the logits, broadcastable likewise.

        Returns:
            `(B, G, n, C)`.
        """
        qkv = self.qkv(windows).unflatten(-1, (3, self.heads, self.head_dim))
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5)  # (B, G, H, n, D) each
        out = attend(q, k, v, mask=mask, bias=bias, dropout=self.dropout if self.training else 0.0)
        return self.proj(out.transpose(2, 3).flatten(3))
