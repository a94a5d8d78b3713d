"""A vision transformer on the attention core (Dosovitskiy et al., ICLR 2021; side information after TransReID).

    vit = VisionTransformer((256, 128), dim=192, depth=12, heads=3, stride=12)
    tokens = vit(torch.zeros(2, 3, 256, 128))     # (2, 1 + 21 * 10, 192), the class token first
    vit.pooled(tokens).shape                      # (2, 192)

With another mixer than multi-head attention the tokens stay on their grid `(B, h, w, C)` and there is no class token:
the mean over the grid takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention import TokenMixer, build
from shared_attention.blocks import Block, FeedForward

__all__ = ["SIZES", "VisionTransformer", "blocks_of", "drop_path", "feed", "resize_positions"]

SIZES = {"tiny": (192, 12, 3), "small": (384, 12, 6), "base": (768, 12, 12)}
"""Size → channels, blocks, heads of ViT and DeiT."""
_EPS = 1e-6
_DEVIATION = 0.02


class VisionTransformer(nn.Module):
    """Tokens of an image.

    Args:
        size: Height and width of the image, in pixels.
        patch: Side of a patch, in pixels.
        stride: Pixels from one patch to the next, at most `patch` for overlapping ones; one number or (vertical,
            horizontal). Default: as the patch.
        dim: Channels `C`.
        depth: Blocks.
        heads: Attention heads.
        expansion: Channels of the feed-forward part over `dim`.
        drop: Stochastic depth of the last block; it rises linearly from 0.
        sides: Number of known cameras (or cameras × views); 0 for no such embedding. Number 0 is the learned unknown.
        side_scale: Factor of that embedding (3 in TransReID).
        side_dropout: Share of training images whose camera is taken for unknown, so that the unknown is learned.
        mixer: Makes another token mixer of two grid axes for a number of channels.

    Raises:
        ValueError: The image is smaller than a patch, or the stride is none.
    """

    def __init__(
        self,
        size: Sequence[int],
        *,
        patch: int = 16,
        stride: int | Sequence[int] | None = None,
        dim: int = 192,
        depth: int = 12,
        heads: int = 3,
        expansion: float = 4.0,
        drop: float = 0.0,
        sides: int = 0,
        side_scale: float = 3.0,
        side_dropout: float = 0.1,
        mixer: Callable[[int], TokenMixer] | None = None,
    ) -> None:
        super().__init__()
        steps = (patch, patch) if stride is None else (stride, stride) if isinstance(stride, int) else tuple(stride)
        if min(size) < patch or min(steps) < 1:
            raise ValueError(f"size {tuple(size)} with patch {patch} and stride {steps} leaves no patch")
        self.size, self.patch, self.dim, self.hidden = (size[0], size[1]), patch, dim, round(dim * expansion)
        self.grid = ((size[0] - patch) // steps[0] + 1, (size[1] - patch) // steps[1] + 1)
        self.embed = nn.Conv2d(3, dim, patch, (steps[0], steps[1]))
        self.has_class_token = mixer is None
        self.class_token = nn.Parameter(torch.zeros(1, 1, dim)) if self.has_class_token else None
        places = self.grid[0] * self.grid[1] + self.has_class_token
        self.position = nn.Parameter(torch.empty(1, places, dim))
        self.side = nn.Embedding(sides + 1, dim) if sides else None
        self.side_scale, self.side_dropout = side_scale, side_dropout
        self.blocks = nn.ModuleList(
            Block(
                build("full", dim, rank=1, heads=heads) if mixer is None else mixer(dim),
                FeedForward(dim, hidden=self.hidden),
                eps=_EPS,
            )
            for _ in range(depth)
        )
        self.drops = [drop * number / max(1, depth - 1) for number in range(depth)]
        self.norm = nn.LayerNorm(dim, eps=_EPS)
        self._initialise()

    def _initialise(self) -> None:
        for parameter in (self.class_token, self.position):
            if parameter is not None:
                nn.init.trunc_normal_(parameter, std=_DEVIATION)
        if self.side is not None:
            nn.init.trunc_normal_(self.side.weight, std=_DEVIATION)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=_DEVIATION)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def tokens(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """What enters the first block.

        Args:
            image: `(B, 3, H, W)`.
            side: Number of the camera of each `(B,)`, 0 for unknown; left out, all are unknown.

        Returns:
            `(B, 1 + N, C)` with the class token first, or `(B, h, w, C)` without one.

        Raises:
            ValueError: The image has another size.
        """
        if tuple(image.shape[2:]) != self.size:
            raise ValueError(f"an image of {tuple(image.shape[2:])} pixels; the network is for {self.size}")
        x = self.embed(image).flatten(2).transpose(1, 2)  # (B, N, C)
        if self.class_token is not None:
            x = torch.cat([self.class_token.expand(len(x), -1, -1).to(x.dtype), x], 1)  # (B, 1 + N, C)
        x = x + self.position
        if self.side is not None:
            side = image.new_zeros(len(x), dtype=torch.long) if side is None else side
            if self.training and self.side_dropout:
                side = side.masked_fill(torch.rand(len(side), device=side.device) < self.side_dropout, 0)
            x = x + self.side_scale * self.side(side)[:, None]
        return torch.as_tensor(x if self.has_class_token else x.reshape(len(x), *self.grid, self.dim))

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """Tokens after the last block, before the last norm; shapes as of `tokens`."""
        x = self.tokens(image, side)
        for block, rate in zip(self.blocks, self.drops, strict=True):
            x = drop_path(x, block(x), rate if self.training else 0.0)
        return x

    def pooled(self, tokens: Tensor) -> Tensor:
        """Tokens → `(B, C)`: the class token, or the mean over the grid, normalised."""
        if self.has_class_token:
            out: Tensor = self.norm(tokens[:, 0])
            return out
        mean: Tensor = self.norm(tokens).mean((1, 2))
        return mean


def blocks_of(vit: VisionTransformer) -> Sequence[Block]:
    """The blocks, in order."""
    return cast("Sequence[Block]", vit.blocks)


def feed(block: Block, x: Tensor) -> Tensor:
    """The feed-forward half of a pre-norm block: tokens `(B, N, C)` → the same."""
    assert block.feed_forward is not None
    assert block.norm2 is not None
    out: Tensor = x + block.feed_forward(block.norm2(x))
    return out


def drop_path(before: Tensor, after: Tensor, rate: float) -> Tensor:
    """Stochastic depth (Huang et al., ECCV 2016): what a block adds is left out for a share of the images."""
    if not rate:
        return after
    kept = torch.rand(len(before), *(1,) * (before.ndim - 1), device=before.device) >= rate
    return before + (after - before) * kept / (1 - rate)


def resize_positions(position: Tensor, grid: tuple[int, int], target: tuple[int, int]) -> Tensor:
    """Position embeddings `(1, h * w, C)` of one grid for another, by bicubic interpolation."""
    if grid == target:
        return position
    image = position.reshape(1, *grid, -1).permute(0, 3, 1, 2)  # (1, C, h, w)
    image = functional.interpolate(image.float(), size=target, mode="bicubic", align_corners=False)
    return image.flatten(2).transpose(1, 2)
