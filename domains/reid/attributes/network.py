"""A conditional transformer behind the face of all networks of this domain."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.reid.models.conditional import ConditionalTransformer
from domains.reid.models.embedder import Embedded
from domains.reid.models.vit import VisionTransformer

__all__ = ["AttributeEmbedder"]


class AttributeEmbedder(nn.Module):
    """One embedding for each attribute.

    Args:
        vit: A ViT with a class token.
        attributes: How many attributes.
        heads: Attention heads.
        fusion: See `ConditionalAttention`.
    """

    def __init__(
        self, vit: VisionTransformer, *, attributes: int, heads: int, fusion: Literal["condition", "token"]
    ) -> None:
        super().__init__()
        self.backbone = ConditionalTransformer(vit, attributes=attributes, heads=heads, fusion=fusion)

    def forward(self, image: Tensor, side: Tensor | None = None) -> Tensor | Embedded:
        """`(B, 3, H, W)` → in training `(B, A, C)`; else embeddings `(B, A, C)` of length 1, and no logits."""
        found: Tensor = self.backbone(image, side).float()
        if self.training:
            return found
        return Embedded(functional.normalize(found, dim=-1), torch.empty(len(image), 0, device=image.device))
