"""TransMIL: Nyström attention among all instances, laid out as a square for a convolution between two layers.

>>> import torch
>>> network = TransformerBags(24, 2, hidden=32)
>>> output = network.eval()(torch.zeros(3, 50, 24))  # (B, N, F)
>>> output.logits.shape, output.attention.shape  # (B, classes), (B, 1, N)
(torch.Size([3, 2]), torch.Size([3, 1, 50]))
"""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor, nn
from torch.nn import functional

from domains.medical.bags.networks.contract import BagOutput
from domains.medical.bags.networks.one_by_one import OneByOne
from shared_attention.arguments import heads_of
from shared_attention.attend import attend, token_softmax
from shared_attention.projections import join_heads, split_heads

__all__ = ["NystromLayer", "PositionPyramid", "TransformerBags"]


class TransformerBags(OneByOne):
    """Shao et al., TransMIL: Transformer based Correlated Multiple Instance Learning, NeurIPS 2021.

    A bag is filled up to a square with its first instances. What the order of the instances is therefore matters.

    Args:
        features: Width of an instance.
        classes: Logits.
        hidden: Width of an embedded instance.
        heads: Heads, a divisor of `hidden`.
        landmarks: Segments whose means stand for all instances; None for half of `hidden`, as published.
        steps: Steps of the iteration that inverts landmarks against landmarks.
        kernel: Instances that the convolution of the values sees, odd.
        dropout: Probability that a projected unit is dropped in training.
    """

    def __init__(
        self,
        features: int,
        classes: int,
        *,
        hidden: int = 512,
        heads: int = 8,
        landmarks: int | None = None,
        steps: int = 6,
        kernel: int = 33,
        dropout: float = 0.1,
    ) -> None:
        super().__init__(features, classes)
        landmarks = hidden // 2 if landmarks is None else landmarks
        self.embed = nn.Sequential(nn.Linear(features, hidden), nn.ReLU())
        self.token = nn.Parameter(torch.randn(1, 1, hidden))
        self.first = NystromLayer(hidden, heads, landmarks, steps, kernel, dropout)
        self.square = PositionPyramid(hidden)
        self.second = NystromLayer(hidden, heads, landmarks, steps, kernel, dropout)
        self.norm = nn.LayerNorm(hidden)
        self.head = nn.Linear(hidden, classes)

    def look_at(self, bag: Tensor) -> BagOutput:
        """Attention is that of the class token in the second layer, in evaluation alone."""
        tokens = self.embed(bag.unsqueeze(0))  # (1, N, D)
        count = tokens.shape[1]
        side = isqrt(count - 1) + 1
        tokens = torch.cat([tokens, tokens[:, : side * side - count]], 1)  # (1, side², D)
        tokens = self.first(torch.cat([self.token, tokens], 1))  # (1, 1 + side², D)
        tokens = torch.cat([tokens[:, :1], self.square(tokens[:, 1:], side)], 1)
        attention = None
        if not self.training:
            seen = self.second.weights_of_first(tokens)[:, 1:]  # (1, side²)
            seen[:, : side * side - count] += seen[:, count:]  # an instance that stands twice counts twice
            attention = (seen[:, :count] / seen[:, :count].sum(1, keepdim=True).clamp(min=1e-12)).unsqueeze(1)
        return BagOutput(self.head(self.norm(self.second(tokens)[:, 0])), attention)


class PositionPyramid(nn.Module):
    """Depthwise convolutions of three sizes on the square, beside the tokens themselves (PPEG).

    Args:
        dim: Channels.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList([nn.Conv2d(dim, dim, size, padding=size // 2, groups=dim) for size in (7, 5, 3)])

    def forward(self, tokens: Tensor, side: int) -> Tensor:
        """`(B, side², D)`, row by row, to the same shape."""
        image = tokens.transpose(1, 2).reshape(len(tokens), -1, side, side)  # (B, D, side, side)
        mixed: Tensor = image + sum(conv(image) for conv in self.convs)
        return mixed.flatten(2).transpose(1, 2)  # (B, side², D)


class NystromLayer(nn.Module):
    """`x + Nyström(norm(x))`, with the quirks that the published weights were trained with.

    Tokens are led by zeros to a multiple of the landmarks, and these zeros are keys and parts of the means too. The
    inverse starts from one scale for all heads of a bag.

    Args:
        dim: Channels.
        heads: Heads, a divisor of the channels.
        landmarks: Segments whose means stand for all tokens.
        steps: Steps of the iteration that inverts landmarks against landmarks.
        kernel: Tokens that the convolution of the values sees, odd.
        dropout: Probability that a projected unit is dropped in training.
    """

    def __init__(self, dim: int, heads: int, landmarks: int, steps: int, kernel: int, dropout: float) -> None:
        super().__init__()
        if landmarks < 1 or steps < 0 or kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"landmarks {landmarks}, steps {steps}, kernel {kernel}: above zero, kernel odd")
        self.heads, self.head_dim = heads_of(dim, heads)
        self.landmarks, self.steps = landmarks, steps
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)
        self.dropout = nn.Dropout(dropout)
        self.conv = nn.Conv1d(heads, heads, kernel, padding=kernel // 2, groups=heads, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(B, N, D)` to the same shape."""
        q, k, v, mean_q, mean_k = self._parts(tokens)
        values = self._inverse(mean_q, mean_k) @ attend(mean_q, k, v)  # (B, H, L, d)
        out = attend(q, mean_k, values) + self._along(v)  # (B, H, N', d)
        out = join_heads(out[:, :, -tokens.shape[1] :], (tokens.shape[1],))  # (B, N, D)
        added: Tensor = self.dropout(self.proj(out.to(tokens.dtype)))
        return tokens + added

    def weights_of_first(self, tokens: Tensor) -> Tensor:
        """How much the first token takes of each `(1, N)`: a mean over heads, what is below zero cut off.

        The product of three softmaxes and an inverse is not one itself, and can be negative.
        """
        q, k, _, mean_q, mean_k = self._parts(tokens)
        first = q[:, :, -tokens.shape[1], None] @ mean_k.transpose(-2, -1) * self.head_dim**-0.5  # (1, H, 1, L)
        row = token_softmax(first) @ self._inverse(mean_q, mean_k)  # (1, H, 1, L)
        total = tokens.new_zeros(1, tokens.shape[1])
        for head in range(self.heads):  # one head at a time: landmarks against all tokens are large
            logits = mean_q[:, head] @ k[:, head].transpose(-2, -1) * self.head_dim**-0.5  # (1, L, N')
            total += (row[:, head] @ token_softmax(logits))[:, 0, -tokens.shape[1] :].clamp(min=0)
        return total / self.heads

    def _parts(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Queries, keys, values `(B, H, N', d)` and means of segments `(B, H, L, d)` of the first two."""
        lead = -tokens.shape[1] % self.landmarks
        qkv = functional.pad(self.qkv(self.norm(tokens)), (0, 0, lead, 0))  # zeros, as a layer without bias gives
        qkv = qkv.to(torch.promote_types(qkv.dtype, torch.float32))
        q, k, v = (split_heads(part, self.heads) for part in qkv.chunk(3, -1))
        mean_q, mean_k = (part.reshape(*part.shape[:2], self.landmarks, -1, self.head_dim).mean(3) for part in (q, k))
        return q, k, v, mean_q, mean_k

    def _inverse(self, mean_q: Tensor, mean_k: Tensor) -> Tensor:
        """Moore-Penrose inverse of landmarks against landmarks `(B, H, L, L)`, by an iteration of third order."""
        with torch.autocast(mean_q.device.type, enabled=False):
            matrix = token_softmax(mean_q @ mean_k.transpose(-2, -1) * self.head_dim**-0.5)
            identity = torch.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
            # One scale for all heads, but for each bag its own: what stands in a batch together is not mixed.
            scale = matrix.sum(-1).amax((1, 2)) * matrix.sum(-2).amax((1, 2))  # (B,)
            inverse = matrix.transpose(-2, -1) / scale[:, None, None, None]
            for _ in range(self.steps):
                product = matrix @ inverse
                inner = product @ (15 * identity - product @ (7 * identity - product))
                inverse = 0.25 * inverse @ (13 * identity - inner)
        return inverse

    def _along(self, v: Tensor) -> Tensor:
        """A convolution of values `(B, H, N', d)` along the instances, one kernel a head."""
        lines: Tensor = self.conv(v.permute(0, 3, 1, 2).flatten(0, 1))  # (B * d, H, N')
        return lines.reshape(v.shape[0], v.shape[-1], self.heads, -1).permute(0, 2, 3, 1)
