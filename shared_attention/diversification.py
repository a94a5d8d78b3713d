"""A loss that makes tokens attend to different tokens (RTA's attention diversification).

>>> import torch
>>> alike = torch.full((1, 2, 4, 4), 0.0).index_fill(3, torch.tensor([0]), 1.0)  # (B, H, N, N): all look at the first
>>> different = torch.eye(4).expand(1, 2, 4, 4)  # each looks at itself
>>> f"{attention_diversification([alike]):.3f}", f"{attention_diversification([different], threshold=0.5):.3f}"
('1.000', '0.500')
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["attention_diversification"]


def attention_diversification(maps: Sequence[Tensor], *, threshold: float = 2.0) -> Tensor:
    """How alike the tokens attend: the cosine between a token's weights and the mean over tokens, averaged.

    Weights are averaged over heads first; those not above `threshold / M` count as zeros, in a token's weights and in
    the mean. Guo et al., Robustifying Token Attention for Vision Transformers, ICCV 2023; guoyongcs/TAPADL@6e4dbff,
    which fails for a batch of one (it drops that axis) where this does not.

    Args:
        maps: Attention weights `(B, H, N, M)` of each layer, rows summing to one. To train with the loss they must
            carry gradients (those of `record_attention` do not; `TokenAwarePooling.attention_weights` do).
        threshold: In units of the weight of even attention.

    Returns:
        A scalar from 0 (all different) to 1 (all alike); divided by the number of layers and 1e-6, as published.

    Raises:
        ValueError: There are no maps.
    """
    if not maps:
        raise ValueError("no attention maps are given, at least one layer is needed")
    alike = []
    for weights in maps:
        rows = weights.mean(1)  # (B, N, M)
        least = threshold / rows.shape[-1]
        mean = rows.mean(1, keepdim=True)
        kept, mean = rows * (rows > least), mean * (mean > least)
        alike.append(functional.cosine_similarity(mean, kept, dim=-1).mean())
    return torch.stack(alike).sum() / (len(alike) + 1e-6)
