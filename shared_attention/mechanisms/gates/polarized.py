"""One gate for the channels, one for the tokens, each keeping half of its own resolution (polarized self-attention).

>>> import torch
>>> from shared_attention import build
>>> build("polarized", 64, rank=2, arrangement="sequential")(torch.zeros(2, 5, 6, 64)).shape  # (B, *S, C) stays
torch.Size([2, 5, 6, 64])
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from shared_attention.attend import token_softmax
from shared_attention.contract import TokenMixer, masked_mean
from shared_attention.registry import Card, Source, register

__all__ = ["Polarized"]


@register(
    Card(
        name="polarized",
        title="Polarized self-attention (PSA)",
        paper="Liu et al., Polarized Self-Attention: Towards High-quality Pixel-wise Regression, arXiv:2107.00782",
        year=2021,
        kind="gate",
        ranks=frozenset({1, 2, 3}),
        ordered=False,
        patterns=("self",),
        cost="1.5*N*C**2 + 4*N*C",
        formula="c = σ(U Σ_j softmax_j(w · x_j) V x_j)          (C) weights of the channels\n"
        "s_i = σ(softmax_i(Q mean_N(x) · K x_i))        a weight of each token\n"
        "y_i = x_i ⊙ (c + s_i), or first c and then s   form='paper': softmax over the channels of Q mean instead",
        source=Source("DeLightCMU/PSA", "20e307a", "Apache-2.0"),
        fixtures=("psa_p", "psa_s", "psa_paper_parallel", "psa_paper_sequential"),
        notes="The authors' code is not the paper: its parallel form has no normalisation in the channel gate and "
        "takes the softmax of the token gate over tokens, after the product; its sequential form takes that softmax "
        "before the product. `form=published` is the default and loads the authors' weights; `form=paper` follows the "
        "equations (softmax over channels of the mean query, LayerNorm in the channel gate) and is held against the "
        "independent class of xmu-xiaoma666/External-Attention-pytorch (d75848e, MIT). The bias of that class's query "
        "over tokens is left out: a constant changes no softmax.",
        flat=True,
    )
)
class Polarized(TokenMixer):
    """Scale channels by a sigmoid of attended means, and tokens by a sigmoid of their likeness to a mean query.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        arrangement: Both gates on the input and their results added, or the token gate after the channel gate.
        form: The authors' code, or the paper's equations.
        hidden: Channels inside the gates; None for half of the channels.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        arrangement: Literal["parallel", "sequential"] = "parallel",
        form: Literal["published", "paper"] = "published",
        hidden: int | None = None,
    ) -> None:
        super().__init__(dim, rank=rank)
        hidden = max(1, dim // 2) if hidden is None else hidden
        if hidden < 1:
            raise ValueError(f"hidden {hidden} is not above zero")
        self.arrangement, self.form = arrangement, form
        bias = form == "paper"
        self.channel_query = nn.Linear(dim, 1, bias=False)
        self.channel_value = nn.Linear(dim, hidden, bias=bias)
        self.channel_up = self._up(dim, hidden)
        self.token_query = nn.Linear(dim, hidden, bias=bias)
        self.token_value = nn.Linear(dim, hidden, bias=bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        tokens, real = x.flatten(1, -2), None if mask is None else mask.flatten(1)  # (B, N, C), (B, N)
        by_channel = self._channel_gate(tokens, real)  # (B, 1, C)
        if self.arrangement == "parallel":
            out = tokens * (by_channel + self._token_gate(tokens, real))
        else:
            out = tokens * by_channel
            out = out * self._token_gate(out, real)
        return out.view_as(x)

    def _up(self, dim: int, hidden: int) -> nn.Module:
        if self.form == "paper":
            return nn.Sequential(nn.Linear(hidden, dim), nn.LayerNorm(dim))
        if self.arrangement == "parallel":
            return nn.Linear(hidden, dim, bias=False)
        narrow = max(1, hidden // 4)
        return nn.Sequential(nn.Linear(hidden, narrow), nn.LayerNorm(narrow), nn.ReLU(), nn.Linear(narrow, dim))

    def _channel_gate(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Weights of the channels `(B, 1, C)`."""
        visible = None if real is None else real[:, None]
        weight = token_softmax(self.channel_query(tokens).transpose(1, 2), mask=visible)  # (B, 1, N)
        return self.channel_up(weight.to(tokens.dtype) @ self.channel_value(tokens)).sigmoid()

    def _token_gate(self, tokens: Tensor, real: Tensor | None) -> Tensor:
        """Weights of the tokens `(B, N, 1)`."""
        visible = None if real is None else real[:, None]
        query = self.token_query(masked_mean(tokens, real, (1,)))  # (B, 1, h): the mean of linear is linear of the mean
        value = self.token_value(tokens).transpose(1, 2)  # (B, h, N)
        if self.form == "paper":
            logits = query.softmax(-1) @ value
        elif self.arrangement == "parallel":
            logits = token_softmax(query @ value, mask=visible)
        else:
            logits = query @ token_softmax(value, mask=visible)
        return logits.transpose(1, 2).sigmoid()
