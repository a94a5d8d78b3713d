"""Where a network looked: attention roll-out of a ViT, or the evidence that a CNN's maps give for a class."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.reid.models.backbones import ConvolutionalFeatures, TransformerFeatures
from domains.reid.models.dcal import DualCrossAttention, roll_out, self_attention
from domains.reid.models.embedder import Embedder, Head
from domains.reid.models.vit import VisionTransformer, blocks_of

__all__ = ["looked_at"]


@torch.no_grad()
def looked_at(network: Embedder, image: Tensor, label: int, side: Tensor | None = None) -> Tensor | None:
    """A map `(h, w)` of what counted in one image, from 0 to 1.

    Args:
        network: The network, in evaluation mode.
        image: `(1, 3, H, W)`.
        label: The class that evidence is asked for (CNN alone; a roll-out asks for none).
        side: Number of the camera `(1,)`.

    Returns:
        None where the network has neither a class token nor maps with a linear classifier.
    """
    backbone = network.backbone
    if isinstance(backbone, (TransformerFeatures, DualCrossAttention)):
        vit: VisionTransformer = backbone.vit
        if not vit.has_class_token:
            return None
        _, maps = self_attention(blocks_of(vit), vit.tokens(image, side))
        heeded = roll_out(maps)[0].reshape(vit.grid)
    elif isinstance(backbone, ConvolutionalFeatures):
        classifier = cast("Head", network.heads["global"]).classifier
        if not isinstance(classifier, nn.Linear):
            return None
        maps = backbone.network(image)[0].float()  # (C, h, w)
        weight = classifier.weight[label].float().reshape(1, backbone.stripes, -1).transpose(1, 2)
        rows = functional.interpolate(weight, size=maps.shape[1], mode="nearest")[0]  # (C, h): of each row's stripe
        heeded = torch.einsum("chw,ch->hw", maps, rows).relu()
    else:
        return None
    low, high = heeded.min(), heeded.max()
    return (heeded - low) / (high - low).clamp_min(1e-12)
