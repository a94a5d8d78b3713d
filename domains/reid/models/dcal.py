"""Dual cross-attention learning (DCAL, Zhu et al., CVPR 2022), from the paper's equations; it has no official code.

Three branches look at the tokens of a plain ViT:

- self-attention, the ViT itself;
- global-local cross-attention (GLCA): queries of the tokens that the class token heeds most, by attention roll-out,
  look at all tokens, in a block of its own on top of the last self-attention;
- pair-wise cross-attention (PWCA): the ViT's own blocks, in which an image's queries look at the keys of two images at
  once. It shares every weight, disturbs training as a regulariser, and is gone at inference.

Where the paper leaves a choice: heads are averaged before the roll-out; the class token is always among the selected
queries; the number of selected patches is rounded down, at least one.

A consequence that the paper does not tell: keys and values of the local branch are all tokens, so what it makes of the
class token is the same whichever patches are selected beside it. With one such block, and the class token for its
feature, as in the paper, roll-out and selected patches change nothing, neither a loss nor an embedding. They are then
left out here (`summary="class"`), which gives the same numbers for less. `summary="patches"` takes the mean of the
selected patches for the feature instead; there the roll-out counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, cast

import torch
from torch import Tensor, nn

from domains.reid.models.vit import VisionTransformer, blocks_of, drop_path, feed
from shared_attention import build
from shared_attention.attend import attend, token_softmax
from shared_attention.blocks import Block, FeedForward
from shared_attention.mechanisms.plain.full import Full
from shared_attention.projections import join_heads, split_heads

__all__ = ["DualCrossAttention", "GlobalLocal", "pair_up", "roll_out", "self_attention", "with_pairs"]


class GlobalLocal(nn.Module):
    """A block in which selected tokens look at all tokens.

    Args:
        dim: Channels `C`.
        heads: Attention heads.
        hidden: Channels inside the feed-forward part.
        ratio: Share R of the patches that are selected (paper: 0.1 for fine-grained classes, 0.3 for re-ID).
        eps: Of the normalisations.

    Raises:
        ValueError: `ratio` is no share.
    """

    def __init__(self, dim: int, *, heads: int, hidden: int, ratio: float = 0.3, eps: float = 1e-6) -> None:
        super().__init__()
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio {ratio} is not a share above 0 and up to 1")
        self.ratio = ratio
        self.block = Block(build("full", dim, rank=1, heads=heads), FeedForward(dim, hidden=hidden), eps=eps)

    def select(self, heeded: Tensor) -> Tensor:
        """Roll-out of the class token to the patches `(B, N)` → indices `(B, 1 + k)`, the class token first."""
        count = max(1, int(self.ratio * heeded.shape[1]))
        top = heeded.topk(count, dim=1).indices + 1
        return torch.cat([torch.zeros_like(top[:, :1]), top], 1)

    def forward(self, tokens: Tensor, chosen: Tensor) -> Tensor:
        """Tokens `(B, 1 + N, C)` and indices `(B, K)` → the selected tokens after the block, `(B, K, C)`."""
        block = self.block
        normed = block.norm1(tokens)
        index = chosen[..., None].expand(-1, -1, tokens.shape[-1])
        x = tokens.gather(1, index) + block.mixer(normed.gather(1, index), normed)
        return feed(block, x)

    def class_token(self, tokens: Tensor) -> Tensor:
        """Tokens `(B, 1 + N, C)` → the class token after the block `(B, C)`: row 0 of `forward`, whatever is chosen."""
        out: Tensor = self(tokens, torch.zeros_like(tokens[:, :1, 0], dtype=torch.long))
        return out[:, 0]


class DualCrossAttention(nn.Module):
    """A ViT with the branches of DCAL.

    Args:
        vit: A ViT with a class token.
        heads: Attention heads of the GLCA block.
        ratio: Share of the patches that GLCA selects.
        local: Whether there is a GLCA branch.
        pairs: Whether training has a PWCA branch.
        summary: What the feature of the GLCA branch is: its `class` token, or the mean of the selected `patches`.

    Raises:
        ValueError: The ViT has no class token, or no such summary is known.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        *,
        heads: int,
        ratio: float = 0.3,
        local: bool = True,
        pairs: bool = True,
        summary: Literal["class", "patches"] = "class",
    ) -> None:
        super().__init__()
        if not vit.has_class_token:
            raise ValueError("DCAL needs a class token, hence a ViT with multi-head attention")
        if summary not in ("class", "patches"):
            raise ValueError(f"summary {summary!r} is not one of class, patches")
        self.vit, self.pairs, self.summary = vit, pairs, summary
        self.local = GlobalLocal(vit.dim, heads=heads, hidden=vit.hidden, ratio=ratio) if local else None
        self.local_norm: nn.Module = nn.LayerNorm(vit.dim, eps=vit.norm.eps) if local else nn.Identity()

    def forward(self, image: Tensor, side: Tensor | None = None) -> dict[str, Tensor]:
        """`(B, 3, H, W)` → class tokens `(B, C)` under `global`, `local` and, in training, `pair`."""
        vit = self.vit
        first = vit.tokens(image, side)
        if self.local is None:
            tokens, out = self._plain(first), {}
        elif self.summary == "class":
            tokens = self._plain(first)
            out = {"local": self.local_norm(self.local.class_token(tokens))}
        else:
            tokens, maps = self_attention(blocks_of(vit), first, vit.drops if vit.training else None)
            chosen = self.local.select(roll_out(maps))
            out = {"local": self.local_norm(self.local(tokens, chosen)[:, 1:].mean(1))}
        branches = {"global": vit.pooled(tokens), **out}
        if self.training and self.pairs and len(image) > 1:
            pair = pair_up(len(image), image.device)
            branches["pair"] = vit.pooled(with_pairs(blocks_of(vit), first, pair, vit.drops))
        return branches

    def _plain(self, x: Tensor) -> Tensor:
        for block, rate in zip(blocks_of(self.vit), self.vit.drops, strict=True):
            x = drop_path(x, block(x), rate if self.training else 0.0)
        return x


def self_attention(
    blocks: Sequence[Block], x: Tensor, drops: Sequence[float] | None = None
) -> tuple[Tensor, list[Tensor]]:
    """Tokens `(B, M, C)` through the blocks, and the head-averaged attention `(B, M, M)` of each, detached.

    Each map is computed once and serves the branch and the roll-out alike.
    """
    maps = []
    for number, block in enumerate(blocks):
        mixer = cast("Full", block.mixer)
        q, k, v = _projected(mixer, block.norm1(x))
        weights = token_softmax((q * mixer.head_dim**-0.5) @ k.transpose(-2, -1))  # (B, H, M, M)
        maps.append(weights.detach().mean(1))
        after = feed(block, x + mixer.proj(join_heads(weights.to(v.dtype) @ v, x.shape[1:2])))
        x = drop_path(x, after, drops[number] if drops is not None else 0.0)
    return x, maps


def with_pairs(blocks: Sequence[Block], x: Tensor, pair: Tensor, drops: Sequence[float] | None = None) -> Tensor:
    """Pair-wise cross-attention: one softmax over the keys of an image and of its pair, in every block.

    Args:
        blocks: The blocks of the self-attention branch.
        x: Tokens `(B, M, C)`.
        pair: Index of each image's pair `(B,)`.
        drops: Stochastic depth of each block.

    Returns:
        `(B, M, C)`.
    """
    for number, block in enumerate(blocks):
        mixer = cast("Full", block.mixer)
        q, k, v = _projected(mixer, block.norm1(x))
        mixed = attend(q, torch.cat([k, k[pair]], 2), torch.cat([v, v[pair]], 2))  # (B, H, M, D)
        after = feed(block, x + mixer.proj(join_heads(mixed, x.shape[1:2])))
        x = drop_path(x, after, drops[number] if drops is not None else 0.0)
    return x


def roll_out(maps: Sequence[Tensor]) -> Tensor:
    """How much the class token heeds each patch after all layers (Abnar and Zuidema, ACL 2020).

    Only the row of the class token of `S_L ... S_2 S_1` is computed, with `S = (attention + identity) / 2`.

    Args:
        maps: Head-averaged attention `(B, 1 + N, 1 + N)` of each layer, the first layer first.

    Returns:
        `(B, N)`.
    """
    row = torch.zeros_like(maps[-1][:, :1])
    row[:, :, 0] = 1  # (B, 1, 1 + N)
    for attention in reversed(maps):
        row = 0.5 * (row @ attention + row)
    return row[:, 0, 1:]


def pair_up(count: int, device: torch.device | None = None) -> Tensor:
    """A random pair for each of `count` images, never itself: two by two, and three in a ring where the count is odd.

    Raises:
        ValueError: There is no other image.
    """
    if count < 2:
        raise ValueError(f"{count} images make no pair")
    order = torch.randperm(count, device=device)
    pair = torch.empty_like(order)
    even = count - 3 * (count % 2)
    pair[order[0:even:2]], pair[order[1:even:2]] = order[1:even:2], order[0:even:2]
    if count % 2:
        ring = order[even:]
        pair[ring] = ring.roll(1)
    return pair


def _projected(mixer: Full, normed: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Queries, keys and values `(B, H, M, D)`."""
    k, v = mixer.kv(normed).chunk(2, -1)
    return split_heads(mixer.q(normed), mixer.heads), split_heads(k, mixer.heads), split_heads(v, mixer.heads)
