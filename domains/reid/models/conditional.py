"""Conditional cross-attention: one embedding for each attribute from one pass through a ViT (Song et al., ICCV 2023).

All blocks but the last are ordinary and shared by the attributes. In the last one the query comes from the attribute
and keys and values from the image, so that all embeddings of an image cost one pass and a small block each. Only the
abstract and figures of the paper were at hand; what the query is made of is a choice here (`fusion`).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from domains.reid.models.vit import VisionTransformer, drop_path, feed
from shared_attention import build
from shared_attention.blocks import Block, FeedForward

__all__ = ["ConditionalAttention", "ConditionalTransformer"]


class ConditionalAttention(nn.Module):
    """A block whose query is an attribute.

    Args:
        dim: Channels `C`.
        attributes: Number of attributes.
        heads: Attention heads.
        hidden: Channels inside the feed-forward part.
        fusion: `condition`: the learned vector of the attribute is the query. `token`: it is added to the class token.
            To add it to every token changes nothing: of the last block the class token alone is heeded, and what it
            becomes depends on its own query and on keys and values, which know no attribute.
        eps: Of the normalisations.
    """

    def __init__(
        self,
        dim: int,
        *,
        attributes: int,
        heads: int,
        hidden: int,
        fusion: Literal["condition", "token"] = "condition",
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if fusion not in ("condition", "token"):
            raise ValueError(f"fusion {fusion!r} is not one of condition, token")
        self.condition = nn.Embedding(attributes, dim)
        nn.init.trunc_normal_(self.condition.weight, std=0.02)
        self.fusion = fusion
        self.block = Block(build("full", dim, rank=1, heads=heads), FeedForward(dim, hidden=hidden), eps=eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens `(B, 1 + N, C)` → one vector for each attribute, `(B, A, C)`."""
        block = self.block
        normed = block.norm1(tokens)
        query = self.condition.weight[None].expand(len(tokens), -1, -1)  # (B, A, C)
        asked = query if self.fusion == "condition" else normed[:, :1] + query
        x = tokens[:, :1] + block.mixer(asked, normed)  # (B, A, C): each attribute is a query of its own
        return feed(block, x)


class ConditionalTransformer(nn.Module):
    """A ViT with a conditional last block.

    Args:
        vit: A ViT with a class token; its last block gives way to the conditional one.
        attributes: Number of attributes.
        heads: Attention heads.
        fusion: See `ConditionalAttention`.
    """

    def __init__(
        self,
        vit: VisionTransformer,
        *,
        attributes: int,
        heads: int,
        fusion: Literal["condition", "token"] = "condition",
    ) -> None:
        super().__init__()
        if not vit.has_class_token or len(vit.blocks) < 2:
            raise ValueError("conditional attention needs a ViT with a class token and at least two blocks")
        vit.blocks = vit.blocks[:-1]
        self.vit = vit
        self.conditional = ConditionalAttention(
            vit.dim, attributes=attributes, heads=heads, hidden=vit.hidden, fusion=fusion
        )

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor:
        """`(B, 3, H, W)` → `(B, A, C)`, one vector for each attribute."""
        vit = self.vit
        x = vit.tokens(image, side)
        for block, rate in zip(vit.blocks, vit.drops, strict=False):
            x = drop_path(x, block(x), rate if self.training else 0.0)
        out: Tensor = vit.norm(self.conditional(x))
        return out
