"""Every token becomes the mean of its neighbours, less itself (PoolFormer).

>>> import torch
>>> from shared_attention import build
>>> build("poolformer", 1, rank=1)(torch.tensor([[[3.0], [0.0], [0.0], [9.0]]])).flatten()
tensor([-1.5000,  1.0000,  3.0000, -4.5000])
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from shared_attention.contract import TokenMixer
from shared_attention.convolutions import channels_first, channels_last
from shared_attention.grids import pad_grid
from shared_attention.registry import Card, Source, register

__all__ = ["NeighbourMean"]

_POOLS = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


@register(
    Card(
        name="poolformer",
        title="Pooling (PoolFormer)",
        paper="Yu et al., MetaFormer Is Actually What You Need for Vision, CVPR 2022",
        year=2022,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="N*C",
        formula="y_i = mean_{|j − i| ≤ kernel/2}(x_j) − x_i      tokens beyond the border are left out of the mean",
        source=Source("sail-sg/poolformer", "a075575", "Apache-2.0"),
        fixtures=("poolformer_block",),
        notes="Holds no parameters. What lies outside the grid, and padded tokens, do not count in the mean. In a "
        "block the normalised tokens are subtracted, not those of the residual.",
        flat=True,
    )
)
class NeighbourMean(TokenMixer):
    """The mean of the real tokens around each token, less the token.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        kernel: Tokens along each axis that are averaged, odd.
    """

    def __init__(self, dim: int, *, rank: int, kernel: int = 3) -> None:
        super().__init__(dim, rank=rank)
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel {kernel} is not odd and above zero")
        self.kernel = kernel

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        grid, reach, pool = x.shape[1:-1], self.kernel // 2, _POOLS[self.rank]
        if mask is None and min(grid) >= self.kernel:
            return channels_last(pool(channels_first(x), self.kernel, 1, reach, count_include_pad=False)) - x
        real = x.new_ones(1, *grid, 1) if mask is None else mask.unsqueeze(-1).to(x.dtype)
        # zeros are added by hand, as the pooling of volumes refuses those that are smaller than its window
        widths = [reach] * self.rank
        total, count = (
            channels_last(pool(channels_first(pad_grid(one, widths, widths)), self.kernel, 1)) for one in (x, real)
        )
        return total / count.clamp(min=0.5 / self.kernel**self.rank) - x  # (B, *S, C); a real token counts itself
