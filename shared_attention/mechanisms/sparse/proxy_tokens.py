"""Each window is stood for by a few averages that look at each other, and all tokens look at these (Qihoo-T2X).

>>> import torch
>>> from shared_attention import build
>>> mixer = build("proxy_tokens", 32, rank=3, window=(1, 4, 4), proxies=(1, 2, 2))
>>> mixer(torch.zeros(2, 3, 9, 7, 32)).shape  # (B, *S, C)
torch.Size([2, 3, 9, 7, 32])
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from shared_attention.arguments import heads_of, per_axis
from shared_attention.attend import attend
from shared_attention.blocks import FeedForward
from shared_attention.contract import TokenMixer, blank, masked_mean
from shared_attention.grids import (
    crop,
    group_grid,
    merge,
    pad_to_multiple,
    partition,
    partition_map,
    partition_strided,
    roll,
    shift_mask,
)
from shared_attention.registry import Card, Source, register

__all__ = ["GatedFeedForward", "ProxyTokenBlock", "ProxyTokens", "SeparateAttention"]


class SeparateAttention(nn.Module):
    """Softmax attention with projections of their own for queries, keys and values.

    Args:
        dim: Channels `C` of the tokens.
        heads: Number of heads.
        head_dim: Channels of each.
        context_dim: Channels of what is looked at; `dim` by default.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        head_dim: int,
        context_dim: int | None = None,
        qkv_bias: bool = False,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        context_dim = dim if context_dim is None else context_dim
        self.q = nn.Linear(dim, heads * head_dim, bias=qkv_bias)
        self.k = nn.Linear(context_dim, heads * head_dim, bias=qkv_bias)
        self.v = nn.Linear(context_dim, heads * head_dim, bias=qkv_bias)
        self.proj = nn.Linear(heads * head_dim, dim)

    def forward(self, x: Tensor, context: Tensor | None = None, mask: Tensor | None = None) -> Tensor:
        """`(..., N, C)` looking at `(..., M, E)`, itself by default; `mask` broadcasts to `(..., H, N, M)`."""
        context = x if context is None else context
        parts = self.q(x), self.k(context), self.v(context)
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(-3, -2) for part in parts)  # (..., H, ., D)
        out = attend(q, k, v, mask=mask, dropout=self.dropout if self.training else 0.0)
        return self.proj(out.transpose(-3, -2).flatten(-2))


class _Modulation(NamedTuple):
    """What a condition makes of a normalised part and of what it adds; each broadcasts to `(B, G, n, C)`."""

    shift: Tensor | float = 0.0
    scale: Tensor | float = 0.0
    gate: Tensor | float = 1.0

    def __call__(self, x: Tensor) -> Tensor:
        return x * (1 + self.scale) + self.shift


_UNCHANGED = _Modulation()


@register(
    Card(
        name="proxy_tokens",
        title="Proxy token attention (Qihoo-T2X, PT-DiT)",
        paper="Wang et al., Qihoo-T2X: An Efficient Proxy-Tokenized Diffusion Transformer for Text-to-Any-Task, ICCV "
        "2025",
        year=2025,
        kind="mixer",
        ranks=frozenset({1, 2, 3}),
        ordered=True,
        patterns=("self",),
        cost="11*N*C**2 + 2*N**2*C*(proxies/window)**rank + 2*(N*(proxies/window)**rank)**2*C + 2*N*window**rank*C",
        formula="p = means over each window's sub-grids of tokens that lie apart;  p ← p + MSA(LN p)\n"
        "x ← x + W₀ MCA(LN x, LN p);  x ← x + W-MSA(LN x);  [x ← x + W₀ SW-MSA(LN x)]\n"
        "y = what was added                             W₀ starts at zero",
        source=Source("Ascend/MindSpeed-MM", "57069cd", "Apache-2.0"),
        fixtures=("ptdit_proxy_block",),
        notes="A proxy is the mean over every so many-th token of its window (what the code does), not over a part of "
        "it. Gives what is to be added to the tokens: proxies, then windows, then shifted windows see one another's "
        "result. Along an axis shorter than a window, the window shrinks. The block with text and time is "
        "`ProxyTokenBlock`; the released one hands windows the time of other samples of the batch, which only its "
        "adapter repeats.",
        small={"window": 4},
    )
)
class ProxyTokens(TokenMixer):
    """Attention among proxies, of all tokens to the proxies, and inside windows.

    Args:
        dim: Channels `C`.
        rank: Grid axes.
        heads: Number of heads; None for heads of about 32 channels that divide the channels.
        head_dim: Channels of each head; None for the channels by the heads.
        window: Tokens of a window along each axis.
        proxies: Proxies of a window along each axis, a divisor of the window.
        shifted: Whether attention in windows shifted by half of one follows.
        qkv_bias: Whether queries, keys and values have an additive bias.
        dropout: Probability that an attention weight is dropped in training.
        eps: Of the layer normalisations.
    """

    def __init__(
        self,
        dim: int,
        *,
        rank: int,
        heads: int | None = None,
        head_dim: int | None = None,
        window: int | tuple[int, ...] = 8,
        proxies: int | tuple[int, ...] = 2,
        shifted: bool = False,
        qkv_bias: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__(dim, rank=rank)
        self.window, self.proxies = per_axis("window", window, rank), per_axis("proxies", proxies, rank)
        if any(size % count for size, count in zip(self.window, self.proxies, strict=True)):
            raise ValueError(f"proxies {self.proxies} does not divide the window {self.window}")
        if head_dim is None or heads is None:
            heads, whole = heads_of(dim, heads)
            head_dim = whole if head_dim is None else head_dim
        if heads < 1 or head_dim < 1:
            raise ValueError(f"heads {heads} or head_dim {head_dim} is not above zero")

        def attention() -> SeparateAttention:
            return SeparateAttention(dim, heads=heads, head_dim=head_dim, qkv_bias=qkv_bias, dropout=dropout)

        self.proxy_norm, self.proxy_attention = nn.LayerNorm(dim, eps=eps), attention()
        self.ask_norm, self.answer_norm = nn.LayerNorm(dim, eps=eps), nn.LayerNorm(dim, eps=eps)
        self.ask_attention, self.ask_proj = attention(), nn.Linear(dim, dim)
        self.window_norm, self.window_attention = nn.LayerNorm(dim, eps=eps), attention()
        zeroed = [self.ask_proj]
        self.shifted = shifted
        if shifted:
            self.shift_norm, self.shift_attention = nn.LayerNorm(dim, eps=eps), attention()
            self.shift_proj = nn.Linear(dim, dim)
            zeroed.append(self.shift_proj)
        for layer in zeroed:  # the block starts as one without them
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def mix(self, x: Tensor, context: Tensor | None, mask: Tensor | None, context_mask: Tensor | None) -> Tensor:
        return self.added(x, mask)

    def added(
        self,
        x: Tensor,
        mask: Tensor | None,
        in_windows: _Modulation = _UNCHANGED,
        in_shifted: _Modulation = _UNCHANGED,
    ) -> Tensor:
        """What the three parts add to `(B, *S, C)`, each seeing what those before it added."""
        grid = x.shape[1:-1]
        window = self.fitted(grid)
        x, mask = pad_to_multiple(x, window, mask)
        whole = x.shape[1:-1]
        start = x = partition(x, window)  # (B, G, n, C)
        real = None if mask is None else partition_map(mask, window)  # (B, G, n)
        x = x + self.ask_proj(self._asked(x, real, window))
        keys = None if real is None else real[:, :, None, None]  # (B, G, 1, 1, n)
        x = x + in_windows.gate * self.window_attention(in_windows(self.window_norm(x)), mask=keys)
        if self.shifted:
            x = x + self.shift_proj(in_shifted.gate * self._shifted(x, mask, window, whole, in_shifted))
        return crop(merge(x - start, window, whole), grid)

    def fitted(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The window, shrunk along axes where the grid is shorter, still a multiple of the proxies."""
        return tuple(
            min(size, -(-length // count) * count)
            for size, length, count in zip(self.window, grid, self.proxies, strict=True)
        )

    def _asked(self, x: Tensor, real: Tensor | None, window: tuple[int, ...]) -> Tensor:
        """What the tokens of windows `(B, G, n, C)` get from the proxies of all windows."""
        every = group_grid(window, self.proxies)  # tokens of a proxy along each axis
        parts = partition_strided(x.flatten(0, 1).unflatten(1, window), every)  # (B * G, P, n / P, C)
        held = None
        if real is not None:
            held = partition_strided(real.flatten(0, 1).unflatten(1, window).unsqueeze(-1), every).squeeze(-1)
        proxies = masked_mean(blank(parts, held), held, (2,)).squeeze(2)  # (B * G, P, C)
        proxies = proxies.unflatten(0, x.shape[:2]).flatten(1, 2)  # (B, G * P, C)
        alive = None if held is None else held.any(-1).unflatten(0, x.shape[:2]).flatten(1, 2)[:, None, None]
        proxies = proxies + self.proxy_attention(self.proxy_norm(proxies), mask=alive)
        out = self.ask_attention(self.ask_norm(x.flatten(1, 2)), self.answer_norm(proxies), alive)
        return out.unflatten(1, x.shape[1:3])

    def _shifted(
        self,
        x: Tensor,
        mask: Tensor | None,
        window: tuple[int, ...],
        whole: tuple[int, ...],
        modulation: _Modulation,
    ) -> Tensor:
        """Attention in windows that are moved by half of one, back in the windows `(B, G, n, C)` that came in."""
        shift = [size // 2 for size in window]
        back = [-step for step in shift]
        moved = partition(roll(merge(x, window, whole), back), window)
        visible = shift_mask(whole, window, shift, x.device)[:, None]  # (G, 1, n, n)
        if mask is not None:
            keys = partition_map(roll(mask.unsqueeze(-1), back).squeeze(-1), window)
            visible = visible & keys[:, :, None, None]
        out = self.shift_attention(modulation(self.shift_norm(moved)), mask=visible)
        return partition(roll(merge(out, window, whole), shift), window)


class GatedFeedForward(nn.Module):
    """A linear layer times the GELU of another, and a linear layer back.

    Args:
        dim: Channels `C`.
        hidden: Channels in between.
    """

    def __init__(self, dim: int, *, hidden: int) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, 2 * hidden)
        self.contract = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.expand(x).chunk(2, -1)
        return self.contract(value * functional.gelu(gate))


class ProxyTokenBlock(nn.Module):
    """Proxy token attention, attention to a text, and a feed-forward part, all under a condition such as the time.

    Args:
        mixer: Proxy token attention.
        text: Attention to the text.
        activation: Of the feed-forward part, which is four times as wide as the tokens.
        eps: Of the layer normalisation.
    """

    def __init__(
        self,
        mixer: ProxyTokens,
        text: SeparateAttention,
        *,
        activation: Literal["gelu", "gelu_tanh", "geglu"] = "geglu",
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        dim = mixer.dim
        self.mixer, self.text = mixer, text
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.feed_forward: nn.Module
        if activation == "geglu":
            self.feed_forward = GatedFeedForward(dim, hidden=4 * dim)
        else:
            self.feed_forward = FeedForward(dim, hidden=4 * dim, activation=activation)
        self.table = nn.Parameter(torch.randn(6, dim) / dim**0.5)
        self.shift_table = nn.Parameter(torch.randn(3, dim) / dim**0.5) if mixer.shifted else None

    def forward(
        self,
        x: Tensor,
        text: Tensor,
        condition: Tensor,
        *,
        mask: Tensor | None = None,
        text_mask: Tensor | None = None,
    ) -> Tensor:
        """One block.

        Args:
            x: `(B, *S, C)`.
            text: `(B, T, E)`.
            condition: `(B, 6, C)`, or `(B, G, 6, C)` with one for each window in row-major order, which then divide
                the grid: shift, scale and gate of attention, and of the feed-forward part.
            mask: bool `(B, *S)`, True for a real token.
            text_mask: bool `(B, T)`, True for a real token of the text.
        """
        condition = condition.unsqueeze(1) if condition.ndim == 3 else condition  # (B, 1 or G, 6, C)
        parts = [part.unsqueeze(2) for part in (self.table + condition).unbind(2)]  # (B, 1 or G, 1, C) each
        moved = _UNCHANGED
        if self.shift_table is not None:
            moved = _Modulation(*(part.unsqueeze(2) for part in (self.shift_table + condition[..., :3, :]).unbind(2)))
        x = blank(x, mask)
        x = blank(x + self.mixer.added(x, mask, _Modulation(*parts[:3]), moved), mask)
        grid, visible = x.shape[1:-1], None if text_mask is None else text_mask[:, None, None]
        x = x + self.text(x.flatten(1, -2), text, visible).unflatten(1, grid)
        last = _Modulation(*parts[3:])
        if condition.shape[1] == 1:
            flat = x.flatten(1, -2).unsqueeze(1)  # (B, 1, N, C)
            return blank(x + (last.gate * self.feed_forward(last(self.norm(flat)))).view_as(x), mask)
        window = self.mixer.fitted(grid)
        windows = last.gate * self.feed_forward(last(self.norm(partition(x, window))))
        return blank(x + merge(windows, window, grid), mask)
